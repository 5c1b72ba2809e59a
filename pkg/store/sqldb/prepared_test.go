package sqldb

import (
	"context"
	"errors"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
)

// Many callers read with one statement at once, also after the schema has changed.
func TestPreparedReads(t *testing.T) {
	eachDatabase(t, func(t *testing.T, at Config) {
		db := openParts(t, at, versions(1))
		const rows = 8
		for i := range rows {
			run(t, db, insertT1, i, strconv.Itoa(i))
		}
		read := func() {
			var wg sync.WaitGroup
			for i := range 4 * rows {
				wg.Go(func() {
					text := ""
					err := db.Reader().QueryRowContext(t.Context(), `SELECT text FROM t1 WHERE id = $1`, i%rows).Scan(&text)
					if err != nil || text != strconv.Itoa(i%rows) {
						t.Errorf("row %d: %q, %v", i%rows, text, err)
					}
				})
			}
			wg.Wait()
		}
		read()
		run(t, db, `ALTER TABLE t1 ADD COLUMN more TEXT`)
		read()
	})
}

// A query that cannot be compiled, or whose caller has left, fails as without
// preparation, and does not decide about the next one.
func TestPreparedErrors(t *testing.T) {
	db := openParts(t, Config{Path: filepath.Join(t.TempDir(), "acmeproxy.db")}, versions(1))
	const query = `SELECT COUNT(*) FROM later`
	var n int
	if err := db.Reader().QueryRowContext(t.Context(), query).Scan(&n); err == nil {
		t.Error("a table that does not exist was read")
	}
	none := func(Scanner) (int, error) { return 0, nil }
	rows, err := db.Reader().QueryContext(t.Context(), query)
	if _, err := Collect(rows, err, none); err == nil {
		t.Error("a table that does not exist was read")
	}
	run(t, db, `CREATE TABLE later (id INTEGER)`)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := db.Reader().QueryRowContext(ctx, query).Scan(&n); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	if err := db.Reader().QueryRowContext(t.Context(), query).Scan(&n); err != nil || n != 0 {
		t.Errorf("%d rows, %v", n, err)
	}
}
