package sqldb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"github.com/acmeproxy/acmeproxy/pkg/managed"
)

// putPrepared inserts a row and reads it back.
func putPrepared(ctx context.Context, db *DB, id int) error {
	return db.Fail(db.Grouped(ctx, func(ctx context.Context, tx *sql.Tx) error {
		p := db.Prepared(tx)
		if _, err := p.ExecContext(ctx, insertT1, id, strconv.Itoa(id)); err != nil {
			return err
		}
		for range 2 {
			var text string
			if err := p.QueryRowContext(ctx, `SELECT text FROM t1 WHERE id = $1`, id).Scan(&text); err != nil || text != strconv.Itoa(id) {
				return errors.Join(err, errors.New("read "+text))
			}
		}
		rows, err := p.QueryContext(ctx, `SELECT text FROM t1 WHERE id <= $1 ORDER BY id LIMIT 5`, id)
		_, err = Collect(rows, err, func(r Scanner) (s string, err error) { return s, r.Scan(&s) })
		return err
	}), "put %d", id)
}

// Many callers write with the same statements. A failure undoes its own writes, and the
// statement works again after it, after a change of the schema, and on a new connection.
func TestPreparedWrites(t *testing.T) {
	eachDatabase(t, func(t *testing.T, at Config) {
		db := openParts(t, at, versions(1))
		const writers, each = 8, 10
		write := func(first int) {
			t.Helper()
			var all sync.WaitGroup
			for w := range writers {
				all.Go(func() {
					for i := range each {
						if err := putPrepared(t.Context(), db, first+w*each+i); err != nil {
							t.Error(err)
						}
						if err := putPrepared(t.Context(), db, first+w*each); !errors.Is(err, managed.ErrConflict) {
							t.Errorf("the same row again: %v", err)
						}
					}
				})
			}
			all.Wait()
		}
		write(0)
		run(t, db, `ALTER TABLE t1 ADD COLUMN more TEXT`)
		write(1000)
		conn, err := db.write.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Raw(func(any) error { return driver.ErrBadConn }) // the pool opens another
		_ = conn.Close()
		write(2000)
		if got := len(ids(t, db)); got != 3*writers*each {
			t.Errorf("%d rows", got)
		}
	})
}

// Statements are compiled once, and do not keep the file open after Close.
func TestPreparedWritesAreCompiled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "acmeproxy.db")
	db := openParts(t, Config{Path: path}, versions(1))
	for id := range 3 {
		if err := putPrepared(t.Context(), db, id); err != nil {
			t.Fatal(err)
		}
	}
	db.statements.mu.Lock()
	ready, wanted := db.statements.ready[insertT1] != nil, db.statements.wanted[insertT1]
	db.statements.mu.Unlock()
	if !ready || wanted {
		t.Errorf("ready: %v, wanted: %v", ready, wanted)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if left, err := filepath.Glob(path + "-wal"); err != nil || len(left) > 0 {
		t.Errorf("the log is still there: %v, %v", left, err)
	}
}
