package store_test

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/acmeproxy/acmeproxy/internal/pgtest"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/store"
)

// The statements of docs/database.md, as the page prints them, give the proxy a
// database that no other role of the server can connect to or disturb.
func TestDatabasePage(t *testing.T) {
	server := pgtest.Start(t)
	page, err := os.ReadFile("../../docs/database.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```sql\n(.*?)```").FindAllSubmatch(page, -1)
	if len(blocks) != 2 {
		t.Fatalf("the page has %d blocks of SQL, want those of the server and of the database", len(blocks))
	}
	statements := func(block int) []string {
		text := strings.Replace(string(blocks[block][1]), "'…'", "'secret'", 1) // which a reader fills in
		return regexp.MustCompile(`;\s*`).Split(strings.TrimSuffix(strings.TrimSpace(text), ";"), -1)
	}
	server.Exec(t, "CREATE ROLE other LOGIN PASSWORD 'secret'")
	server.Exec(t, "CREATE DATABASE open") // the test can tell a database that is open
	server.Exec(t, statements(0)...)
	as := func(role, password, database string) string {
		return fmt.Sprintf("postgres://%s:%s@127.0.0.1:%d/%s", role, password, server.Port, database)
	}
	connect := func(url string) error {
		conn, err := pgx.Connect(t.Context(), url)
		if err != nil {
			return err
		}
		return conn.Close(context.WithoutCancel(t.Context()))
	}
	if err := connect(as("other", "secret", "open")); err != nil {
		t.Fatal(err)
	}
	if err := connect(as("other", "secret", "acmeproxy")); err == nil || !strings.Contains(err.Error(), "42501") {
		t.Errorf("another role connects to the proxy's database: %v", err)
	}
	for _, second := range []bool{false, true} {
		if second {
			for _, s := range statements(1) {
				runSQL(t, server.URL("acmeproxy"), s)
			}
		}
		s, err := store.Open(t.Context(), store.Config{URL: as("acmeproxy", "secret", "acmeproxy")})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.CreateClient(t.Context(), clients.Client{Name: fmt.Sprintf("web%v", second)}); err != nil {
			t.Error(err)
		}
		if err := s.Notify(t.Context(), "x"); err != nil {
			t.Error(err)
		}
		s.Close()
	}
	// And for a database that was made before the page had these lines.
	runSQL(t, server.URL("postgres"), "GRANT CONNECT ON DATABASE acmeproxy TO PUBLIC")
	if err := connect(as("other", "secret", "acmeproxy")); err != nil {
		t.Fatal(err)
	}
	if got := len(statements(0)); got != 4 {
		t.Fatalf("%d statements", got)
	}
	server.Exec(t, statements(0)[2:]...)
	if err := connect(as("other", "secret", "acmeproxy")); err == nil {
		t.Error("the lines do not close a database that exists")
	}
}
