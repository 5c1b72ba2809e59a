package store

import (
	"database/sql"
	"fmt"
	"io/fs"
	"path/filepath"
	"testing"

	"github.com/pressly/goose/v3"

	"github.com/acmeproxy/acmeproxy/internal/pgtest"
	"github.com/acmeproxy/acmeproxy/pkg/store/sqldb"
	"github.com/acmeproxy/acmeproxy/pkg/trail"
)

// A database of before keeps its audit trail in order, its clients without a
// default quota, and its certificates, whose CA is unknown (X14, X20).
func TestUpgrade(t *testing.T) {
	path := filepath.Join(t.TempDir(), "acmeproxy.db")
	for name, c := range map[string]struct {
		driver, dsn string
		dialect     goose.Dialect
		open        Config
	}{
		"SQLite":     {"sqlite", "file:" + path, goose.DialectSQLite3, Config{Path: path}},
		"PostgreSQL": {"pgx", "", goose.DialectPostgres, Config{}},
	} {
		t.Run(name, func(t *testing.T) {
			if c.dsn == "" {
				c.dsn = pgtest.Start(t).Database(t)
				c.open.URL = c.dsn
			}
			db, err := sql.Open(c.driver, c.dsn)
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			files, err := fs.Sub(migrations, "migrations")
			if err != nil {
				t.Fatal(err)
			}
			p, err := goose.NewProvider(c.dialect, db, files, goose.WithDisableGlobalRegistry(true))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := p.UpTo(t.Context(), 2); err != nil {
				t.Fatal(err)
			}
			statements := []string{
				`INSERT INTO accounts (directory_url, url, email, sealed_key, created_at) VALUES ('https://ca.example/dir', '', '', '', 0)`,
				`INSERT INTO clients (id, name, disabled, recipients, created_at) VALUES ('w1', 'web1', FALSE, '', 0)`,
				`INSERT INTO counters (name, value) VALUES ('audit', 12)`,
				`INSERT INTO managed (id, client_id, mode, names, names_hash, key_type, profile, csr, due_at, lease_owner, lease_until, failures,
					last_error, last_error_at, etag, serial, not_before, not_after, created_at, updated_at)
					VALUES ('m1', 'w1', 'certificate-agent', 'a.example', '', '', '', '', 0, '', 0, 0, '', 0, 'e1', '01', 1, 2, 0, 0)`,
				`INSERT INTO bundles (managed_id, etag, ciphertext, serial, not_before, not_after, created_at) VALUES ('m1', 'e1', 'sealed', '01', 1, 2, 0)`,
			}
			for i, row := range []string{"'', '', '192.0.2.1', 'refused'", "'w1', 'web1', 'admin', 'done'", "'w1', 'web1', '192.0.2.1', 'allowed'", "'gone', 'web0', '192.0.2.1', 'refused'"} {
				for n := range 3 {
					statements = append(statements, fmt.Sprintf(`INSERT INTO audit (id, at, client_id, client_name, addr, outcome, action, mode, names, detail)
						VALUES (%d, 0, %s, '', '', '', '%d')`, 1+i+4*n, row, 1+i+4*n))
				}
			}
			for _, s := range statements {
				if _, err := db.ExecContext(t.Context(), s); err != nil {
					t.Fatalf("%s: %v", s, err)
				}
			}
			s, err := Open(t.Context(), c.open)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if quota, err := s.WantsDefaultQuota(t.Context()); err != nil || quota {
				t.Errorf("clients of an old database have a default quota: %v, %v", quota, err)
			}
			if m, err := s.ManagedByID(t.Context(), "m1"); err != nil || m.ETag != "e1" || m.Name != "" || m.CA != "https://ca.example/dir" || m.ARIID != "" || !m.ARIStart.IsZero() || !m.ARIEnd.IsZero() || !m.ARICheckAt.IsZero() {
				t.Errorf("the certificate is %+v, %v", m, err)
			}
			if b, err := s.BundleFor(t.Context(), "m1"); err != nil || string(b.Ciphertext) != "sealed" || b.CA != "https://ca.example/dir" || b.ARIID != "" {
				t.Errorf("the bundle is %+v, %v", b, err)
			}
			if err := s.AppendAudit(t.Context(), trail.Entry{Outcome: "refused", Detail: "13"}, trail.Entry{ClientID: "w1", Outcome: "done", Detail: "14"}); err != nil {
				t.Fatal(err)
			}
			all, err := s.Audit(t.Context(), trail.Query{})
			if err != nil || len(all) != 14 {
				t.Fatalf("%d entries, %v", len(all), err)
			}
			for i, e := range all {
				if e.ID != int64(14-i) || e.Detail != fmt.Sprint(14-i) {
					t.Errorf("entry %d is %+v", i, e)
				}
			}
			rows, err := db.QueryContext(t.Context(), `SELECT share, MIN(seq), MAX(seq) FROM audit GROUP BY share ORDER BY share`)
			got, err := sqldb.Collect(rows, err, func(r sqldb.Scanner) (string, error) {
				var share string
				var first, last int
				err := r.Scan(&share, &first, &last)
				return fmt.Sprint(share, " ", first, " ", last), err
			})
			if want := "[ 1 3 client/w1 1 4 removed 1 3 strangers 1 4]"; err != nil || fmt.Sprint(got) != want {
				t.Errorf("%v, %v; want %s", got, err, want)
			}
		})
	}
}
