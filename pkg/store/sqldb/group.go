package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

const (
	// maxGroup bounds the functions that share one transaction.
	maxGroup = 64
	// maxGroupTime bounds how long functions are added to a transaction, so that the
	// first one does not wait for many slow ones.
	maxGroupTime = 50 * time.Millisecond
)

// errGroup means that the shared transaction was lost with everything in it.
var errGroup = errors.New("the shared transaction was rolled back")

// group collects functions that wait for the one writer of SQLite.
type group struct {
	mu      sync.Mutex
	waiting []*member // guarded by mu, in the order of their calls
	running bool      // guarded by mu: a goroutine serves waiting
}

// member is one function of a group.
type member struct {
	ctx      context.Context //nolint:containedctx // handed to run, whose caller waits
	run      func(context.Context, *sql.Tx) error
	err      error
	panicked any
	done     chan struct{} // closed when err and panicked are final
}

// Grouped is [DB.Tx] for small writes that come from many callers at once: on SQLite,
// those that wait share one transaction, hence one write to the disk. A nil error
// means, as with Tx, that what run wrote is on the disk. Functions run one at a
// time, in the order of the calls.
//
// An error of run undoes its own writes and leaves those of the others. run must
// return the first error of a statement, and must use the context that it is given:
// that is ctx, but does not end in the middle, since SQLite would then undo the
// writes of the others as well. If ctx ends before run has begun, run is not called
// and ctx's error is returned; after that, Grouped waits for the outcome.
func (db *DB) Grouped(ctx context.Context, run func(ctx context.Context, tx *sql.Tx) error) error {
	if db.group == nil {
		return db.Tx(ctx, func(tx *sql.Tx) error { return run(ctx, tx) })
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	m := &member{ctx: context.WithoutCancel(ctx), run: run, done: make(chan struct{})}
	db.join(m)
	select {
	case <-m.done:
	case <-ctx.Done():
		if db.group.leave(m) {
			return ctx.Err()
		}
		<-m.done
	}
	if m.panicked != nil {
		panic(m.panicked)
	}
	return m.err
}

// join adds m and makes sure that it is served.
func (db *DB) join(m *member) {
	g := db.group
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waiting = append(g.waiting, m)
	if !g.running {
		g.running = true
		go db.serveGroup()
	}
}

// serveGroup runs transactions until no function waits.
func (db *DB) serveGroup() {
	for db.group.isWanted() {
		db.runGroup()
	}
}

// runGroup runs one transaction. What comes while it runs joins it.
func (db *DB) runGroup() {
	tx, err := db.write.BeginTx(context.Background(), nil)
	if err != nil {
		if m := db.group.next(); m != nil { // the next one tries again
			m.finish(err)
		}
		return
	}
	var done []*member
	var lost error
	for begun := time.Now(); lost == nil && len(done) < maxGroup && time.Since(begun) < maxGroupTime; {
		m := db.group.next()
		if m == nil {
			break
		}
		done = append(done, m)
		lost = m.runIn(tx)
	}
	if lost == nil {
		lost = tx.Commit()
	} else {
		_ = tx.Rollback() // SQLite did it already
		lost = fmt.Errorf("%w: %w", errGroup, lost)
	}
	for _, m := range done {
		if m.err == nil {
			m.err = lost
		}
		close(m.done)
	}
}

// runIn calls m's function, whose writes it undoes if that fails. It returns an error
// if the whole transaction is lost.
func (m *member) runIn(tx *sql.Tx) (lost error) {
	if _, err := tx.ExecContext(m.ctx, `SAVEPOINT member`); err != nil {
		return err
	}
	m.call(tx)
	end := `RELEASE member`
	if m.err != nil {
		end = `ROLLBACK TO member; RELEASE member`
	}
	if _, err := tx.ExecContext(m.ctx, end); err != nil { // the transaction ended with the statement that failed
		return errors.Join(m.err, err)
	}
	return nil
}

// call calls m's function. A panic is for its caller, not for the others.
func (m *member) call(tx *sql.Tx) {
	defer func() {
		if m.panicked = recover(); m.panicked != nil {
			m.err = errGroup
		}
	}()
	m.err = m.run(m.ctx, tx)
}

func (m *member) finish(err error) {
	m.err = err
	close(m.done)
}

// next removes the first function that waits, and returns it; nil if none does.
func (g *group) next() *member {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.waiting) == 0 {
		return nil
	}
	m := g.waiting[0]
	g.waiting = slices.Delete(g.waiting, 0, 1)
	return m
}

// leave removes m, and reports whether it was still waiting.
func (g *group) leave(m *member) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	i := slices.Index(g.waiting, m)
	if i >= 0 {
		g.waiting = slices.Delete(g.waiting, i, i+1)
	}
	return i >= 0
}

// isWanted reports whether a function waits. If none does, serveGroup must end.
func (g *group) isWanted() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.running = len(g.waiting) > 0
	return g.running
}
