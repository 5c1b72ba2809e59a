package acmeserver_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/internal/pgtest"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver/sqlstore"
	"github.com/acmeproxy/acmeproxy/pkg/store/sqldb"
)

// empty holds a migrated database of each kind. The tests copy it, because migrations
// take most of the time of opening one.
var empty struct {
	sqlite, postgres sync.Once
	file             []byte
	server           *pgtest.Server // nil until a test needs it
	stop             func()
	url              string
	err              error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if empty.stop != nil {
		empty.stop()
	}
	os.Exit(code)
}

func migrate(at sqldb.Config) error {
	at.Parts = []sqldb.Part{sqlstore.Part()}
	db, err := sqldb.Open(context.Background(), at)
	if err != nil {
		return fmt.Errorf("migrate an empty database: %w", err)
	}
	return db.Close()
}

func openSQL(t *testing.T, at sqldb.Config) acmeserver.Storage {
	t.Helper()
	at.Parts = []sqldb.Part{sqlstore.Part()}
	db, err := sqldb.Open(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return sqlstore.New(db)
}

func openSQLite(t *testing.T) acmeserver.Storage {
	t.Helper()
	empty.sqlite.Do(func() {
		path := filepath.Join(t.TempDir(), "empty.db")
		if err := migrate(sqldb.Config{Path: path}); err != nil {
			t.Fatal(err)
		}
		var err error
		if empty.file, err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
	})
	path := filepath.Join(t.TempDir(), "acmed.db")
	if err := os.WriteFile(path, empty.file, 0o600); err != nil {
		t.Fatal(err)
	}
	return openSQL(t, sqldb.Config{Path: path})
}

func openPostgreSQL(t *testing.T) acmeserver.Storage {
	t.Helper()
	empty.postgres.Do(func() {
		// Not t.Context(): other tests use the server, too.
		if empty.server, empty.stop, empty.err = pgtest.Run(context.Background()); empty.err == nil {
			empty.url = empty.server.Database(t)
			empty.err = migrate(sqldb.Config{URL: empty.url})
		}
	})
	if errors.Is(empty.err, pgtest.ErrNotInstalled) && !pebbletest.ToolsRequired() {
		t.Skipf("SKIP: %v", empty.err)
	}
	if empty.err != nil {
		t.Fatal(empty.err)
	}
	return openSQL(t, sqldb.Config{URL: empty.server.CopyOf(t, empty.url)})
}
