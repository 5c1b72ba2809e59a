package sqldb

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
)

// MaxNotice is how many bytes of text Notify takes (PostgreSQL's manual, NOTIFY:
// shorter than 8000 bytes).
const MaxNotice = 7999

// channel is what the instances on one database listen to. A channel belongs to
// its database, so those on others do not mix.
const channel = "acmeproxy"

const (
	listenPing     = 30 * time.Second // how often a silent connection is tried
	listenPatience = 10 * time.Second // what one step on it may take
	firstPause     = 100 * time.Millisecond
	longestPause   = 10 * time.Second
)

// Notify sends a text to all who Listen on this database, the sender included.
// Those who listen get the texts of one sender in their order. On SQLite, which
// one instance has to itself, it does nothing.
func (db *DB) Notify(ctx context.Context, text string) error {
	if db.listener == nil {
		return nil
	}
	if len(text) > MaxNotice || text == "" {
		return fmt.Errorf("notify: a text of %d bytes; there may be 1 to %d", len(text), MaxNotice)
	}
	// Nothing of it must outlive a crash: no disk and no standby is waited for.
	_, err := db.write.ExecContext(ctx, "SELECT pg_notify($1, $2), set_config('synchronous_commit', 'off', true)", channel, text)
	return db.Fail(err, "notify")
}

// Listen receives what Notify sends until ctx ends, on a connection of its own.
// When the connection breaks it connects again: at once, then after growing
// pauses. What was sent in between is lost. On SQLite it only waits.
//
// The functions are called one at a time. connected means that everything sent
// from then on is heard, and down that nothing is heard until connected is called
// again. Anybody who may use the database can send any text.
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
		select { // so that instances do not come back all at once
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
		_ = conn.Close(closing) // whatever comes of it, the connection is over
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
	ctx, cancel := context.WithTimeout(ctx, listenPatience)
	defer cancel()
	_, err := conn.Exec(ctx, statement)
	return err
}
