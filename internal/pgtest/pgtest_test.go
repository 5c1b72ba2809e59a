package pgtest_test

import (
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/acmeproxy/acmeproxy/internal/pgtest"
)

// Data outlives a crash of the server, databases are apart, the port asks for
// the password, and nothing is left at the end.
func TestServer(t *testing.T) {
	var dir string
	t.Run("running", func(t *testing.T) {
		s := pgtest.Start(t)
		dir = s.Socket
		one, two := s.Database(t), s.Database(t)
		if one == two {
			t.Fatal("the same database twice")
		}
		conn, err := pgx.Connect(t.Context(), one)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Exec(t.Context(), "CREATE TABLE kept (word TEXT); INSERT INTO kept VALUES ('here')"); err != nil {
			t.Fatal(err)
		}
		s.Stop()
		conn.Close(t.Context())
		if err := s.Resume(t.Context()); err != nil {
			t.Fatal(err)
		}
		if dump := string(s.Dump(t, one)); !strings.Contains(dump, "here") {
			t.Errorf("the dump lacks the row:\n%s", dump)
		}
		if dump := string(s.Dump(t, two)); strings.Contains(dump, "kept") {
			t.Error("the table is in another database")
		}
		if _, err := pgx.Connect(t.Context(), strings.Replace(one, s.Password, "wrong", 1)); err == nil {
			t.Error("connected with a wrong password")
		}
	})
	if _, err := os.Stat(dir); dir != "" && !os.IsNotExist(err) {
		t.Errorf("%s is left: %v", dir, err)
	}
}
