package sqlstore_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/pgtest"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver/sqlstore"
	"github.com/acmeproxy/acmeproxy/pkg/store/sqldb"
)

// A claim whose commit fails, as on a full disk, returns no orders: without a lease, each
// of them would be issued again and again (C12).
func TestClaimNotCommitted(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		at     func(t *testing.T) sqldb.Config
		faults []string // statements that make each commit fail that changed an order
	}{
		"SQLite": {func(t *testing.T) sqldb.Config {
			return sqldb.Config{Path: filepath.Join(t.TempDir(), "acmed.db")}
		}, []string{
			`CREATE TABLE parent (id INTEGER PRIMARY KEY)`,
			`CREATE TABLE child (parent INTEGER REFERENCES parent (id) DEFERRABLE INITIALLY DEFERRED)`,
			`CREATE TRIGGER fault AFTER UPDATE ON acme_orders BEGIN INSERT INTO child VALUES (1); END`,
		}},
		"PostgreSQL": {func(t *testing.T) sqldb.Config { return sqldb.Config{URL: pgtest.Start(t).Database(t)} }, []string{
			`CREATE FUNCTION fault() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'no space left'; END$$`,
			`CREATE CONSTRAINT TRIGGER fault AFTER UPDATE ON acme_orders DEFERRABLE INITIALLY DEFERRED
				FOR EACH ROW EXECUTE FUNCTION fault()`,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := open(t, c.at(t))
			defer closing(t, db)
			s, ctx, now := sqlstore.New(db), t.Context(), time.Now()
			o := acmeserver.Order{ID: "o", Status: acmeserver.StatusProcessing, CreatedAt: now, Expires: now.Add(time.Hour), DueAt: now}
			if err := s.CreateOrder(ctx, o, 0); err != nil {
				t.Fatal(err)
			}
			for _, statement := range c.faults {
				if _, err := db.Exec(ctx, statement); err != nil {
					t.Fatal(err)
				}
			}
			if got, err := s.ClaimOrders(ctx, "w", now, now.Add(time.Minute), 5); err == nil || len(got) > 0 {
				t.Errorf("%d orders, error %v", len(got), err)
			}
			if o, err := s.Order(ctx, "o"); err != nil || o.LeaseOwner != "" || o.Version != 1 {
				t.Errorf("the claim was stored: %+v, %v", o, err)
			}
		})
	}
}
