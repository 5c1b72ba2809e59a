package store

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
func (s *Store) Notify(ctx context.Context, text string) error {
	if s.listener == nil {
		return nil
	}
	if len(text) > MaxNotice || text == "" {
		return fmt.Errorf("notify: a text of %d bytes; there may be 1 to %d", len(text), MaxNotice)
	}
	// Nothing of it must outlive a crash: no disk and no standby is waited for.
	_, err := s.write.ExecContext(ctx, "SELECT pg_notify($1, $2), set_config('synchronous_commit', 'off', true)", channel, text)
	return s.fail(err, "notify")
}

// Listener hears what Notify sends. Its functions are called one at a time; while
// one of them runs, nothing else is heard.
type Listener struct {
	Connected func()       // everything sent from here on is heard
	Heard     func(string) // anybody who may use the database can send anything
	Down      func(error)  // nothing is heard until Connected is called again
}

// Listen calls l until ctx ends, on a connection of its own, which it makes again
// whenever it breaks: at once, then with growing pauses. What was sent in between
// is not heard. On SQLite it only waits.
func (s *Store) Listen(ctx context.Context, l Listener) {
	if s.listener == nil {
		<-ctx.Done()
		return
	}
	for pause := firstPause; ctx.Err() == nil; {
		err := s.listen(ctx, Listener{
			Connected: func() { pause = firstPause; l.Connected() },
			Heard:     l.Heard,
		})
		if ctx.Err() != nil {
			return
		}
		l.Down(s.fail(err, "listen"))
		select { // so that instances do not come back all at once
		case <-time.After(pause/2 + rand.N(pause/2)):
		case <-ctx.Done():
		}
		pause = min(2*pause, longestPause)
	}
}

// listen is one connection's life.
func (s *Store) listen(ctx context.Context, l Listener) error {
	conn, err := pgx.ConnectConfig(ctx, s.listener)
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
	l.Connected()
	for {
		waiting, cancel := context.WithTimeout(ctx, listenPing)
		n, err := conn.WaitForNotification(waiting)
		silent := waiting.Err() != nil && ctx.Err() == nil
		cancel()
		switch {
		case err == nil:
			l.Heard(n.Payload)
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
