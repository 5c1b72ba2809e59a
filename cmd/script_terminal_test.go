package cmd_test

import (
	"database/sql"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/rogpeppe/go-internal/testscript"
)

// hostile clears a screen, sets a window's title, reverses text, hides text and
// adds a row to a table.
const hostile = "evil\x1b[2J\x1b]0;title\a\u009b31m\u202egpj\u2066\u200b\xff\rover\nFAKE  row\tcell"

// poison writes foreign text into every field of the proxy's database that a
// client, a CA, a hook or a name server can set, while the proxy does not run.
func poison(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: poison CLIENT")
	}
	db, err := sql.Open("sqlite", ts.MkAbs("data/acmeproxy.db"))
	ts.Check(err)
	defer db.Close()
	later := time.Now().Add(72 * time.Hour).UnixMilli() // no attempt is due during the test
	for _, statement := range []struct {
		text string
		args []any
	}{
		{"UPDATE clients SET recipients = recipients || $1 WHERE name = $2", []any{"\nssh-ed25519 AAAA " + strings.ReplaceAll(hostile, "\n", " "), args[0]}},
		{"UPDATE grants SET networks = $1", []any{"127.0.0.0/8\n" + strings.ReplaceAll(hostile, "\n", " ")}},
		{"UPDATE managed SET failures = 3, last_error = $1, due_at = $2, wait_until = $2 WHERE names <> 'hook.example.com'", []any{hostile + "\x1f" + hostile, later}},
		{"UPDATE managed SET failures = 0, last_error = '', last_error_at = 0, due_at = $1 WHERE names = 'hook.example.com'", []any{later}},
		{"INSERT INTO hooks_pending (managed_id, etag, due_at, lease_owner, lease_until, leased_etag, failures, last_error) " +
			"SELECT id, '', 0, '', 0, '', 2, $1 FROM managed WHERE names = 'hook.example.com'", []any{hostile}},
		{"UPDATE audit SET names = $1, detail = $2, addr = $2, action = $2, client_name = $2", []any{hostile, hostile}},
	} {
		_, err := db.Exec(statement.text, statement.args...)
		ts.Check(err)
	}
}

// harmless fails if the last command printed control sequences.
func harmless(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: harmless")
	}
	for _, stream := range []string{"stdout", "stderr"} {
		text := ts.ReadFile(stream)
		for line := range strings.Lines(text) {
			line = strings.TrimSuffix(line, "\n")
			if !utf8.ValidString(line) || strings.ContainsFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }) {
				ts.Fatalf("%s has %q", stream, line)
			}
			if strings.HasPrefix(line, "FAKE") {
				ts.Fatalf("%s has a row from outside: %q", stream, line)
			}
		}
	}
}

// A5: all commands print with printf, printErrf and tables, which escape.
func TestPrintsInOnePlace(t *testing.T) {
	t.Parallel()
	paths, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	around := map[string]bool{"Print": true, "Printf": true, "Println": true, "PrintErr": true, "PrintErrf": true, "PrintErrln": true, "Fprint": true, "Fprintf": true, "Fprintln": true}
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") || path == "output.go" {
			continue
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			from, ok := call.X.(*ast.Ident)
			if ok && from.Name != "printable" && around[call.Sel.Name] {
				t.Errorf("%s: use printf, printErrf or a table (output.go), which escape foreign text, not %s.%s", fset.Position(n.Pos()), from.Name, call.Sel.Name)
			}
			return true
		})
	}
	if _, err := os.Stat("output.go"); err != nil {
		t.Error(err)
	}
}
