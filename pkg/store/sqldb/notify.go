package sqldb

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
)

// MaxNotice is the maximum length of Notify's text in bytes (PostgreSQL's manual,
// NOTIFY: shorter than 8000 bytes).
const MaxNotice = 7999

// channel is the name of the channel of all instances on one database. Each database
// has separate channels.
const channel = "acmeproxy"

const (
	listenPing    = 30 * time.Second // interval of pings on an idle connection
	listenTimeout = 10 * time.Second // timeout for one step on it
	firstPause    = 100 * time.Millisecond
	longestPause  = 10 * time.Second
)

// Notify sends a text to all instances that Listen on this database, the sender
// included. They receive the texts of one sender in order. On SQLite, which only one
// instance uses, it does nothing.
func (db *DB) Notify(ctx context.Context, text string) error {
	if db.listener == nil {
		return nil
	}
	if len(text) > MaxNotice || text == "" {
		return fmt.Errorf("notify: a text of %d bytes; there may be 1 to %d", len(text), MaxNotice)
	}
	// The text need not survive a crash, so the commit waits for no disk or standby.
	_, err := db.write.ExecContext(ctx, "SELECT pg_notify($1, $2), set_config('synchronous_commit', 'off', true)", channel, text)
	return db.Fail(err, "notify")
}

// Listen receives texts of Notify until ctx ends, on a separate connection. When the
// connection breaks, it connects again, at once and then after growing pauses. Texts
// that are sent in between are lost. On SQLite it only waits for ctx.
//
// It calls the functions one at a time. After connected, it receives all texts. After
// down, it receives none until it calls connected again. Every user of the database
// can send any text.
func (db *DB) Listen(ctx context.Context, connected func(), heard func(text string), down func(error)) {
	if db.listener == nil {
		<-ctx.Done()
		return
	}
	for pause := firstPause; ctx.Err() == nil; {
		err := db.listen(ctx, func() { pause = firstPause; connected() }, heard)
		if ctx.Err() != nil {
			return
		}
		down(db.Fail(err, "listen"))
		select { // so that not all instances connect at once
		case <-time.After(pause/2 + rand.N(pause/2)):
		case <-ctx.Done():
		}
		pause = min(2*pause, longestPause)
	}
}

// listen serves one connection.
func (db *DB) listen(ctx context.Context, connected func(), heard func(string)) error {
	conn, err := pgx.ConnectConfig(ctx, db.listener)
	if err != nil {
		return err
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(closing) // an error does not matter, since the connection is not used again
	}()
	if err := listenStep(ctx, conn, "LISTEN "+channel); err != nil {
		return err
	}
	connected()
	for {
		waiting, cancel := context.WithTimeout(ctx, listenPing)
		n, err := conn.WaitForNotification(waiting)
		silent := waiting.Err() != nil && ctx.Err() == nil
		cancel()
		switch {
		case err == nil:
			heard(n.Payload)
		case silent && !conn.IsClosed():
			if err := listenStep(ctx, conn, "SELECT 1"); err != nil {
				return err
			}
		default:
			return err
		}
	}
}

func listenStep(ctx context.Context, conn *pgx.Conn, statement string) error {
	ctx, cancel := context.WithTimeout(ctx, listenTimeout)
	defer cancel()
	_, err := conn.Exec(ctx, statement)
	return err
}
