//go:build unix

package issuer_test

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
)

// D15: answers are world-readable files in a web server's folder, and are removed.
func TestWebroot(t *testing.T) {
	root := t.TempDir()
	tokens := filepath.Join(root, ".well-known", "acme-challenge")
	files := http.FileServer(http.Dir(root))
	web := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		info, err := os.Stat(filepath.Join(tokens, filepath.Base(r.URL.Path)))
		if err != nil || info.Mode() != 0o644 {
			t.Errorf("%s: %v, %v; want a file with mode 0644", r.URL.Path, info, err)
		}
		files.ServeHTTP(w, r)
	})
	defer unix.Umask(unix.Umask(0o077))
	e := startBehind(t, pebbletest.Options{}, web, func(cfg *testConfig) { cfg.Webroot = root })
	if _, err := e.issuer.Issue(t.Context(), ec(names(t, "web.example.com", "www.example.com")), nil); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(tokens); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("the folder has mode %v, %v; want 0755", info.Mode(), err)
	}
	left, err := os.ReadDir(tokens)
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
