package store_test

import (
	"database/sql"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/pressly/goose/v3"

	"github.com/acmeproxy/acmeproxy/internal/pgtest"
	"github.com/acmeproxy/acmeproxy/pkg/store"
)

const (
	ageKey  = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"
	hostKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGHvaM9Y0VuQDl1U0cVyl5+yXsWnXDpiqPjvQtNJjXvD"
)

// oldSchema makes a database as the program before migration 3 left it, with
// clients that have recipients with comments.
func oldSchema(t *testing.T, dialect goose.Dialect, driver, dsn string) {
	t.Helper()
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	files := fstest.MapFS{}
	for _, name := range []string{"0001_init.sql", "0002_revocation.sql"} {
		text, err := os.ReadFile(filepath.Join("migrations", name))
		if err != nil {
			t.Fatal(err)
		}
		files[name] = &fstest.MapFile{Data: text}
	}
	p, err := goose.NewProvider(dialect, db, files, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, recipients := range oldRecipients {
		text := strings.Join(recipients, "\n")
		if _, err := db.ExecContext(t.Context(), `INSERT INTO clients (id, name, disabled, recipients, created_at) VALUES ($1, $2, $3, $4, $5)`,
			"id-"+name, name, false, text, 1); err != nil {
			t.Fatal(err)
		}
	}
}

var oldRecipients = map[string][]string{
	"merged":    {hostKey + " root@web1", ageKey, hostKey + " \x1b[2Jother", hostKey},
	"trimmed":   {hostKey + " a comment of words", " " + ageKey},
	"canonical": {ageKey, hostKey},
	"odd":       {"age1damaged", ageKey, "age1damaged"},
	"none":      nil,
}

// The recipients of the previous schema become canonical, and what differed in its
// comment only becomes one; all else of the rows stays (X9).
func migratesRecipients(t *testing.T, c store.Config) {
	m, err := store.Migrate(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if m.From != 2 || !slices.Contains(m.Applied, "0003_recipients") {
		t.Errorf("%+v", m)
	}
	s, err := store.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for name, want := range map[string][]string{
		"merged": {hostKey, ageKey}, "trimmed": {hostKey, ageKey}, "canonical": {ageKey, hostKey}, "odd": {"age1damaged", ageKey}, "none": nil,
	} {
		got, err := s.ClientByName(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got.Recipients); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if got.ID != "id-"+name || got.CreatedAt.UnixMilli() != 1 {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestMigrateRecipientsSQLite(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a.db")
	oldSchema(t, goose.DialectSQLite3, "sqlite", "file:"+path)
	migratesRecipients(t, store.Config{Path: path})
}

func TestMigrateRecipientsPostgres(t *testing.T) {
	url := pgtest.Start(t).Database(t)
	oldSchema(t, goose.DialectPostgres, "pgx", url)
	migratesRecipients(t, store.Config{URL: url})
}
