package sqldb

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
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
	// lazyTime is how long a function of Lazily waits for a transaction of others.
	lazyTime = 5 * time.Millisecond
)

// errGroup means that the shared transaction was lost with everything in it.
var errGroup = errors.New("the shared transaction was rolled back")

// group collects functions that wait for the one writer of SQLite.
type group struct {
	lazyTime time.Duration // instead of lazyTime, for tests

	mu      sync.Mutex
	waiting []*member // guarded by mu, in the order of their calls
	running bool      // guarded by mu: a goroutine serves waiting
}

// member is one function of a group.
type member struct {
	ctx      context.Context //nolint:containedctx // handed to run, whose caller waits
	run      func(context.Context, *sql.Tx) error
	unsynced bool
	lazy     bool // guarded by group.mu: it waits for another function
	err      error
	panicked any
	done     chan struct{} // closed when err and panicked are final
}

// Grouped runs a function in a transaction, as [DB.Tx] does, for small writes of many
// callers at once. On SQLite, waiting functions share one transaction, and so one write
// to the disk. As with Tx, a nil error means that the writes of run are on the disk.
// Functions run one at a time, in the order of the calls.
//
// An error of run undoes only its own writes. run must return the first error of a
// statement, and must use its context. That is ctx, but it does not end during run,
// since SQLite would then undo the writes of the others as well. If ctx ends before run
// has begun, Grouped returns ctx's error without a call of run. After that, it waits
// for the outcome.
func (db *DB) Grouped(ctx context.Context, run func(ctx context.Context, tx *sql.Tx) error) error {
	if db.group == nil {
		return db.Tx(ctx, func(tx *sql.Tx) error { return run(ctx, tx) })
	}
	return db.inGroup(ctx, &member{run: run})
}

// Unsynced is [DB.Grouped] for counters, which need not wait for the disk: a nil
// error means that the writes survive the end of this process. If the database's
// host fails, the last of them may be lost.
func (db *DB) Unsynced(ctx context.Context, run func(ctx context.Context, tx *sql.Tx) error) error {
	if db.group == nil {
		return db.Tx(ctx, func(tx *sql.Tx) error {
			if _, err := tx.ExecContext(ctx, `SET LOCAL synchronous_commit = off`); err != nil {
				return err
			}
			return run(ctx, tx)
		})
	}
	return db.inGroup(ctx, &member{run: run, unsynced: true})
}

// Lazily is [DB.Unsynced] for writes that may wait a moment. On SQLite, run joins the next
// transaction of Grouped or Unsynced, and gets its own if none begins within some
// milliseconds. If the next one is of Grouped, the writes of run are on the disk when
// that is.
func (db *DB) Lazily(ctx context.Context, run func(ctx context.Context, tx *sql.Tx) error) error {
	if db.group == nil {
		return db.Unsynced(ctx, run)
	}
	return db.inGroup(ctx, &member{run: run, unsynced: true, lazy: true})
}

func (db *DB) inGroup(ctx context.Context, m *member) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.ctx, m.done = context.WithoutCancel(ctx), make(chan struct{})
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
	switch {
	case m.lazy:
		time.AfterFunc(cmp.Or(g.lazyTime, lazyTime), db.serveLazy)
	case !g.running:
		g.running = true
		go db.serveGroup()
	}
}

// serveLazy makes sure that lazy functions wait no longer.
func (db *DB) serveLazy() {
	g := db.group
	g.mu.Lock()
	for _, m := range g.waiting {
		m.lazy = false
	}
	begin := !g.running && len(g.waiting) > 0
	g.running = g.running || begin
	g.mu.Unlock()
	if begin {
		db.serveGroup()
	}
}

// serveGroup runs transactions until no function waits.
func (db *DB) serveGroup() {
	for db.group.hasWaiting() {
		db.runGroup()
		db.statements.prepare(context.Background())
	}
}

// runGroup runs one transaction. Functions that arrive while it runs join it, but
// one that must be synced does not join a transaction that is not.
func (db *DB) runGroup() {
	unsynced := db.group.isUnsynced()
	tx, end, err := db.beginGroup(unsynced)
	if err != nil {
		if m := db.group.next(unsynced); m != nil { // the next one tries again
			m.finish(err)
		}
		return
	}
	defer end()
	var done []*member
	var lost error
	for begun := time.Now(); lost == nil && len(done) < maxGroup && time.Since(begun) < maxGroupTime; {
		m := db.group.next(unsynced)
		if m == nil {
			break
		}
		done = append(done, m)
		lost = m.runIn(tx, db.Prepared(tx))
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

// beginGroup begins a transaction, and returns end, which releases its connection.
// An unsynced transaction is in the WAL file when it is committed; the next synced
// one writes both to the disk.
func (db *DB) beginGroup(unsynced bool) (tx *sql.Tx, end func(), err error) {
	ctx := context.Background()
	conn, err := db.write.Conn(ctx)
	if err != nil {
		return nil, nil, err
	}
	end = func() { _ = conn.Close() } // returns it to the pool
	if unsynced {
		release := end
		end = func() {
			if _, err := conn.ExecContext(ctx, `PRAGMA synchronous = FULL`); err != nil {
				_ = conn.Raw(func(any) error { return driver.ErrBadConn }) // the pool opens another
			}
			release()
		}
		if _, err := conn.ExecContext(ctx, `PRAGMA synchronous = NORMAL`); err != nil {
			end()
			return nil, nil, err
		}
	}
	if tx, err = conn.BeginTx(ctx, nil); err != nil {
		end()
		return nil, nil, err
	}
	return tx, end, nil
}

// runIn calls m's function, whose writes it undoes if that fails. It returns an error
// if the whole transaction is lost.
func (m *member) runIn(tx *sql.Tx, prepared Execer) (lost error) {
	if _, err := prepared.ExecContext(m.ctx, `SAVEPOINT member`); err != nil {
		return err
	}
	m.call(tx)
	var undone error
	if m.err != nil {
		_, undone = prepared.ExecContext(m.ctx, `ROLLBACK TO member`)
	}
	_, released := prepared.ExecContext(m.ctx, `RELEASE member`)
	if err := errors.Join(undone, released); err != nil { // the transaction ended with the statement that failed
		return errors.Join(m.err, err)
	}
	return nil
}

// call calls m's function. It stores a panic for the function's own caller.
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

// isUnsynced reports whether the next transaction is unsynced. That depends on the first
// function that is not lazy, so that a lazy one is in the same transaction.
func (g *group) isUnsynced() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	i := slices.IndexFunc(g.waiting, func(m *member) bool { return !m.lazy })
	return len(g.waiting) > 0 && (i < 0 || g.waiting[i].unsynced)
}

// next removes the first function that waits, and returns it. It returns nil if
// none waits, or if the first must be synced and the transaction is unsynced.
func (g *group) next(unsynced bool) *member {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.waiting) == 0 || unsynced && !g.waiting[0].unsynced {
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

// hasWaiting reports whether a function waits that is not lazy. If not, serveGroup must
// end.
func (g *group) hasWaiting() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.running = slices.ContainsFunc(g.waiting, func(m *member) bool { return !m.lazy })
	return g.running
}
