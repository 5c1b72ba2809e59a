package sqldb

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"go.uber.org/goleak"

	"github.com/acmeproxy/acmeproxy/internal/pgtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// acmePart is a second part, with n versions, whose rows refer to the first one's.
func acmePart(n int) Part {
	files := fstest.MapFS{
		"0001_init.sql": {Data: []byte("-- +goose Up\nCREATE TABLE acme_orders (id BIGINT NOT NULL PRIMARY KEY REFERENCES t1 (id), url TEXT NOT NULL);\n")},
		"0003_more.sql": {Data: []byte("-- +goose Up\nALTER TABLE acme_orders ADD COLUMN state TEXT NOT NULL DEFAULT 'pending';\n")},
	}
	if n < 3 {
		delete(files, "0003_more.sql")
	}
	p := Part{Name: "acme", Migrations: files, Tables: []string{"acme_orders"}}
	if n >= 2 {
		p.Steps = []Step{{Version: 2, Name: "0002_step", Run: func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, `INSERT INTO acme_orders (id, url) SELECT id, text FROM t1`)
			return err
		}}}
	}
	return p
}

// eachDatabase runs test with the address of an empty database of each kind.
func eachDatabase(t *testing.T, test func(t *testing.T, at Config)) {
	t.Run("SQLite", func(t *testing.T) { test(t, Config{Path: filepath.Join(t.TempDir(), "acmeproxy.db")}) })
	t.Run("PostgreSQL", func(t *testing.T) { test(t, Config{URL: pgtest.Start(t).Database(t)}) })
}

func openParts(t *testing.T, at Config, parts ...Part) *DB {
	t.Helper()
	at.Parts = parts
	db, err := Open(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() }) // it may be closed by then
	return db
}

func run(t *testing.T, db *DB, query string, args ...any) {
	t.Helper()
	if _, err := db.Exec(t.Context(), query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

func texts(t *testing.T, db *DB, query string) []string {
	t.Helper()
	rows, err := db.Reader().QueryContext(t.Context(), query)
	found, err := Collect(rows, err, func(r Scanner) (s string, err error) { return s, r.Scan(&s) })
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return found
}

// A part joins a database that is in use, and each goes through versions of its own.
func TestPartsHaveTheirOwnVersions(t *testing.T) {
	eachDatabase(t, func(t *testing.T, at Config) {
		db := openParts(t, at, versions(2))
		run(t, db, `INSERT INTO t1 (id, text) VALUES (1, 'one')`)
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}

		at.Parts = []Part{versions(2), acmePart(2)}
		m, err := Migrate(t.Context(), at)
		if err != nil {
			t.Fatal(err)
		}
		if want := []string{"acme/0001_init.sql", "acme/0002_step"}; m.From != 2 || m.To != 2 || !slices.Equal(m.Applied, want) {
			t.Errorf("%+v, want %q", m, want)
		}
		if isSQLite := at.Path != ""; isSQLite != (m.Copy == at.Path+".before-2" && m.Copy != ".before-2") {
			t.Errorf("the copy is %q", m.Copy)
		}
		at.Parts = []Part{versions(3), acmePart(3)}
		m, err = Migrate(t.Context(), at)
		if want := []string{"0003_step.sql", "acme/0003_more.sql"}; err != nil || m.From != 2 || m.To != 3 || !slices.Equal(m.Applied, want) {
			t.Errorf("%+v, %v, want %q", m, err, want)
		}
		if m, err := Migrate(t.Context(), at); err != nil || len(m.Applied) != 0 || m.Copy != "" {
			t.Errorf("again: %+v, %v", m, err)
		}
		db = openParts(t, at, at.Parts...)
		if got := texts(t, db, `SELECT url || ' ' || state FROM acme_orders`); !slices.Equal(got, []string{"one pending"}) {
			t.Errorf("rows %q", got)
		}
		// An older program must not run on what a newer part wrote.
		at.Parts = []Part{versions(3), acmePart(1)}
		if _, err := Migrate(t.Context(), at); err == nil || !strings.Contains(err.Error(), "run the newer program") {
			t.Errorf("a newer part: %v", err)
		}
	})
}

// All tables of all parts are copied, in an order that their references allow.
func TestCopyOfParts(t *testing.T) {
	eachDatabase(t, func(t *testing.T, at Config) {
		parts := []Part{versions(1), acmePart(1)}
		from := openParts(t, Config{Path: filepath.Join(t.TempDir(), "from.db")}, parts...)
		run(t, from, `INSERT INTO t1 (id, text) VALUES (7, 'seven')`)
		run(t, from, `INSERT INTO acme_orders (id, url) VALUES (7, 'u')`)
		to := openParts(t, at, parts...)
		done, err := Copy(t.Context(), from, to)
		if want := "[{t1 1} {acme_orders 1}]"; err != nil || fmt.Sprint(done) != want {
			t.Errorf("%v, %v, want %s", done, err, want)
		}
		if got := texts(t, to, `SELECT url FROM acme_orders`); !slices.Equal(got, []string{"u"}) {
			t.Errorf("rows %q", got)
		}
		less := openParts(t, Config{Path: filepath.Join(t.TempDir(), "less.db")}, versions(1))
		if _, err := Copy(t.Context(), from, less); err == nil || !strings.Contains(err.Error(), "different tables") {
			t.Errorf("into fewer parts: %v", err)
		}
	})
}

func TestPartFaults(t *testing.T) {
	one := Part{Name: "one", Tables: []string{"a"}}
	for want, parts := range map[string][]Part{
		"parts: missing":                          nil,
		`part "one": the name is taken`:           {one, {Name: "one"}},
		`part "Two": the name is taken or is not`: {one, {Name: "Two"}},
		"table a belongs to another part":         {one, {Name: "two", Tables: []string{"a"}}},
		"table one_version belongs to another":    {one, {Name: "two", VersionTable: "one_version"}},
		"table b is not among its tables; add it": {{Name: "one", Tables: []string{"a"}, Seeded: []string{"b"}}},
	} {
		_, err := Open(t.Context(), Config{Path: filepath.Join(t.TempDir(), "x.db"), Parts: parts})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// Transactions that lock one text run one after the other, so each sees what the former
// one wrote. Other texts do not wait.
func TestLockText(t *testing.T) {
	eachDatabase(t, func(t *testing.T, at Config) {
		db := openParts(t, at, versions(1))
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				err := db.Tx(t.Context(), func(tx *sql.Tx) error {
					if err := db.LockText(t.Context(), tx, "test \u00e9"); err != nil {
						return err
					}
					_, err := tx.ExecContext(t.Context(), `INSERT INTO t1 (id, text) SELECT COUNT(*), 'n' FROM t1`)
					return err
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if got := texts(t, db, `SELECT text FROM t1`); len(got) != 8 {
			t.Errorf("%d rows", len(got))
		}
		if db.listener == nil {
			return // the transactions of SQLite wait for each other anyway
		}
		err := db.Tx(t.Context(), func(one *sql.Tx) error {
			if err := db.LockText(t.Context(), one, "one"); err != nil {
				return err
			}
			return db.Tx(t.Context(), func(two *sql.Tx) error { return db.LockText(t.Context(), two, "two") })
		})
		if err != nil {
			t.Error(err)
		}
	})
}
