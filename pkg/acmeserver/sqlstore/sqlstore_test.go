package sqlstore_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/acmeproxy/acmeproxy/internal/pgtest"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver/sqlstore"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver/storagetest"
	"github.com/acmeproxy/acmeproxy/pkg/store/sqldb"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// open opens the database of a test.
func open(t testing.TB, at sqldb.Config) *sqldb.DB {
	t.Helper()
	at.Parts = []sqldb.Part{sqlstore.Part()}
	db, err := sqldb.Open(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func closing(t testing.TB, db *sqldb.DB) {
	t.Helper()
	if err := db.Close(); err != nil {
		t.Error(err)
	}
}

func TestSQLite(t *testing.T) { // C12
	t.Parallel()
	empty := filepath.Join(t.TempDir(), "empty.db") // migrated once, which takes most of a case's time
	closing(t, open(t, sqldb.Config{Path: empty}))
	data, err := os.ReadFile(empty)
	if err != nil {
		t.Fatal(err)
	}
	storagetest.Run(t, func(t *testing.T, now func() time.Time) acmeserver.Storage {
		path := filepath.Join(t.TempDir(), "acmed.db")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		db := open(t, sqldb.Config{Path: path, Now: now})
		t.Cleanup(func() { closing(t, db) })
		return sqlstore.New(db)
	})
	t.Run("reopen", func(t *testing.T) { reopen(t, sqldb.Config{Path: filepath.Join(t.TempDir(), "acmed.db")}) })
}

func TestPostgreSQL(t *testing.T) { // C12
	t.Parallel()
	server := pgtest.Start(t)
	empty := server.Database(t)
	closing(t, open(t, sqldb.Config{URL: empty}))
	storagetest.Run(t, func(t *testing.T, now func() time.Time) acmeserver.Storage {
		db := open(t, sqldb.Config{URL: server.CopyOf(t, empty), Now: now})
		t.Cleanup(func() { closing(t, db) })
		return sqlstore.New(db)
	})
	t.Run("reopen", func(t *testing.T) { reopen(t, sqldb.Config{URL: server.Database(t)}) })
}

func reopen(t *testing.T, at sqldb.Config) {
	storagetest.Reopen(t, func(t *testing.T, now func() time.Time) (acmeserver.Storage, func()) {
		at.Now = now
		db := open(t, at)
		return sqlstore.New(db), func() { closing(t, db) }
	})
}

// A process that starts alone continues at once what its predecessor left.
func TestFreeLeases(t *testing.T) {
	db := open(t, sqldb.Config{Path: filepath.Join(t.TempDir(), "acmed.db")})
	defer closing(t, db)
	s, ctx, now := sqlstore.New(db), t.Context(), time.Now()
	o := acmeserver.Order{ID: "o", Status: acmeserver.StatusProcessing, CreatedAt: now, Expires: now.Add(time.Hour), DueAt: now}
	if err := s.CreateOrder(ctx, o, 0); err != nil {
		t.Fatal(err)
	}
	claim := func(owner string) int {
		t.Helper()
		got, err := s.ClaimOrders(ctx, owner, now, now.Add(time.Minute), 5)
		if err != nil {
			t.Fatal(err)
		}
		return len(got)
	}
	if claim("killed") != 1 || claim("new") != 0 {
		t.Fatal("the lease does not hold")
	}
	if err := s.FreeLeases(ctx); err != nil {
		t.Fatal(err)
	}
	if claim("new") != 1 {
		t.Error("the lease was not freed")
	}
	if err := s.ExtendOrder(ctx, "o", "killed", now.Add(time.Hour)); !errors.Is(err, acmeserver.ErrStale) {
		t.Errorf("the former holder extended it: %v", err)
	}
}
