package proxy_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/acmeproxy/acmeproxy"

// layers lists the packages by level. A package may import those on lower lines,
// never those on its own line or above.
var layers = [][]string{
	{"."},
	{"cmd", "examples/acmed"},
	{"pkg/proxy/proxytest"},
	{"pkg/proxy"},
	{"pkg/store/storetest"},
	{"pkg/store"}, // an adapter: what is below declares the methods that it needs
	{"pkg/acmeserver/sqlstore"},
	{"pkg/store/sqldb"},
	{"pkg/remote"},
	{"pkg/modes/client", "pkg/modes/agent", "pkg/modes/gateway", "pkg/modes/offload", "pkg/modes/relay", "pkg/modes/sign"},
	{"pkg/frontend/rest", "pkg/frontend/admin", "pkg/frontend/acme", "pkg/frontend/sign"},
	{"pkg/checks", "pkg/enroll"},
	{"pkg/renewal"},
	{"pkg/issuer"},
	{"pkg/peers"},
	{"pkg/challenge/dns01"},
	{"pkg/audit"},
	{"pkg/policy"},
	{"pkg/auth"},
	{"pkg/config", "pkg/fallback", "pkg/preflight"},
	{"pkg/challenge"},
	{"pkg/cert/certfile"},
	{"pkg/acmeserver/localca", "pkg/acmeserver/storagetest", "pkg/acmeserver/validation"},
	{"pkg/acmeserver"},
	{"pkg/work"},
	{"pkg/acmems", "pkg/acmems/accountdir", "pkg/api", "pkg/managed"},
	{"pkg/trail"},
	{"pkg/acmeserver/jws", "pkg/cert", "pkg/clients", "pkg/connlimit", "pkg/dnsupdate", "pkg/envproxy", "pkg/fair", "pkg/hook", "pkg/responder", "pkg/seal", "pkg/store/dsn"}, // leaves
	{"pkg/acme", "pkg/bodymac", "pkg/dnsprovider", "pkg/dnsquery", "pkg/localfile", "pkg/publicip"},
	{"pkg/printable"},
}

// notForFrontends lists packages that a frontend uses through an interface only.
var notForFrontends = []string{"pkg/renewal", "pkg/modes/client", "pkg/modes/agent", "pkg/modes/gateway", "pkg/modes/offload", "pkg/modes/relay", "pkg/modes/sign"}

// docs/architecture.md has a row for each package, in an order in which imports
// point down.
func TestArchitectureListsPackages(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	var rows []string
	for _, m := range regexp.MustCompile("(?m)^\\| `((?:cmd|pkg/)[^`]*)` \\|").FindAllStringSubmatch(string(page), -1) {
		rows = append(rows, m[1])
	}
	for _, p := range goList(t, "./cmd", "./pkg/...") {
		rel := ours(p.ImportPath)
		from := slices.Index(rows, rel)
		if from < 0 {
			t.Errorf("docs/architecture.md has no row for %s", rel)
			continue
		}
		for _, path := range p.Imports {
			if to := slices.Index(rows, ours(path)); to >= 0 && to < from {
				t.Errorf("docs/architecture.md has %s below %s, which it imports", rel, rows[to])
			}
		}
	}
	for _, rel := range rows {
		if layerOf(rel) < 0 {
			t.Errorf("docs/architecture.md has a row for %s, which is no package", rel)
		}
	}
}

type goPackage struct {
	ImportPath string
	Imports    []string
}

func goList(t *testing.T, args ...string) []goPackage {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"list", "-json=ImportPath,Imports"}, args...)...)
	cmd.Dir = "../.."
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, &stderr)
	}
	var all []goPackage
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// ours returns a package's path in the module, or an empty string for a foreign one.
func ours(path string) string {
	if path == module {
		return "."
	}
	rel, ok := strings.CutPrefix(path, module+"/")
	if !ok {
		return ""
	}
	return rel
}

func layerOf(rel string) int {
	return slices.IndexFunc(layers, func(l []string) bool { return slices.Contains(l, rel) })
}

// Imports point down the table only.
func TestImportDirection(t *testing.T) {
	t.Parallel()
	for _, p := range goList(t, "./...") {
		rel := ours(p.ImportPath)
		if strings.HasPrefix(rel, "internal/") {
			continue // tools of this repository; TestShippedCode keeps them out of the program
		}
		from := layerOf(rel)
		if from < 0 {
			t.Errorf("%s has no place in the table of this test", rel)
			continue
		}
		for _, path := range p.Imports {
			imported := ours(path)
			if imported == "" || strings.HasPrefix(imported, "internal/") {
				continue
			}
			if to := layerOf(imported); to <= from {
				t.Errorf("%s imports %s, which is beside it or above", rel, imported)
			}
			if strings.HasPrefix(rel, "pkg/frontend/") && slices.Contains(notForFrontends, imported) {
				t.Errorf("%s imports %s; it should declare the interface that it needs", rel, imported)
			}
		}
	}
}

// Each package that others may import has an example that compiles.
func TestPackagesHaveExamples(t *testing.T) {
	t.Parallel()
	for _, p := range goList(t, "./pkg/...") {
		rel := ours(p.ImportPath)
		if strings.HasSuffix(rel, "test") {
			continue // helpers of tests
		}
		files, err := filepath.Glob("../../" + rel + "/*_test.go")
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(files, func(file string) bool {
			text, err := os.ReadFile(file)
			return err == nil && bytes.Contains(text, []byte("\nfunc Example"))
		}) {
			t.Errorf("%s has no example", rel)
		}
	}
}

// adapters lists the packages that may import a library for a CA or a database.
var adapters = map[string][]string{
	"github.com/go-acme/lego/":  {"pkg/issuer", "pkg/challenge/dns01"},
	"github.com/jackc/pgx/":     {"pkg/store/sqldb"},
	"github.com/pressly/goose/": {"pkg/store/sqldb"},
	"modernc.org/sqlite":        {"pkg/store/sqldb"},
}

// An internal host needs no library for a CA or a database.
func TestRemoteDependsOnNoAdapter(t *testing.T) {
	t.Parallel()
	for _, p := range goList(t, "-deps", "./pkg/remote") {
		for library := range adapters {
			if strings.HasPrefix(p.ImportPath, library) {
				t.Errorf("pkg/remote depends on %s", p.ImportPath)
			}
		}
	}
}

// environmentReaders lists the packages that may read the environment. The PostgreSQL
// driver reads the PG variables itself, and our defaults depend on them.
var environmentReaders = []string{"pkg/store/sqldb"}

// Only cmd reads the environment and passes it down. Libraries of DNS providers and
// of PostgreSQL read it too.
func TestOnlyCmdReadsEnvironment(t *testing.T) {
	t.Parallel()
	read := regexp.MustCompile(`\bos\.(Getenv|LookupEnv|Environ|ExpandEnv)\b`)
	comment := regexp.MustCompile(`(?m)//.*$`)
	for _, p := range goList(t, "./pkg/...") {
		rel := ours(p.ImportPath)
		if strings.HasSuffix(rel, "test") || slices.Contains(environmentReaders, rel) {
			continue
		}
		files, err := filepath.Glob("../../" + rel + "/*.go")
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if found := read.Find(comment.ReplaceAll(text, nil)); found != nil {
				t.Errorf("%s uses %s; take the value from cmd", strings.TrimPrefix(file, "../../"), found)
			}
		}
	}
}

// The released program contains no test code, and one package imports each library
// for a CA or a database.
func TestShippedCode(t *testing.T) {
	t.Parallel()
	shipped := goList(t, "-deps", ".")
	if len(shipped) < 100 {
		t.Fatalf("%d packages only", len(shipped))
	}
	for _, p := range shipped {
		rel := ours(p.ImportPath)
		if rel == "" {
			if strings.Contains(p.ImportPath, "letsencrypt/") || p.ImportPath == "testing" {
				t.Errorf("the program contains %s", p.ImportPath)
			}
			continue
		}
		if strings.HasPrefix(rel, "internal/") || strings.HasSuffix(rel, "test") {
			t.Errorf("the program contains %s", rel)
		}
		for _, path := range p.Imports {
			for library, allowed := range adapters {
				if strings.HasPrefix(path, library) && !slices.Contains(allowed, rel) {
					t.Errorf("%s imports %s; only %s may", rel, path, strings.Join(allowed, " and "))
				}
			}
		}
	}
}
