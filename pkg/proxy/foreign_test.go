package proxy_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/acmeproxy/acmeproxy/pkg/config"
	"github.com/acmeproxy/acmeproxy/pkg/localfile"
	"github.com/acmeproxy/acmeproxy/pkg/proxy"
	"github.com/acmeproxy/acmeproxy/pkg/seal"
)

// The proxy adopts neither an identity nor a database that another user
// planted in its data directory, and does not follow a link to lock a file.
func TestForeignDataDir(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("NOT TESTED: only root can give files to another user")
	}
	const stranger = 65534
	start := func(dir string) error {
		cfg := proxy.Config{Serve: config.DefaultServe(), Version: "test", Getenv: os.Getenv}
		cfg.DataDir, cfg.HTTPAddr, cfg.HTTPSAddr = dir, "127.0.0.1:0", "127.0.0.1:0"
		p, err := proxy.New(t.Context(), cfg)
		if err == nil {
			err = errors.Join(errors.New("it started"), p.Close())
		}
		return err
	}
	for _, name := range []string{"identity.age", "acmeproxy.db", "acmeproxy.db-wal", "acmeproxy.db-journal"} {
		dir := t.TempDir()
		path := filepath.Join(dir, name)
		if name == "identity.age" {
			if _, err := seal.LoadOrCreateIdentity(path); err != nil {
				t.Fatal(err)
			}
		} else if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(path, stranger, stranger); err != nil {
			t.Fatal(err)
		}
		var foreign *localfile.ForeignError
		if err := start(dir); !errors.As(err, &foreign) || !strings.Contains(err.Error(), path+" belongs to nobody") {
			t.Errorf("%s: %v", name, err)
		}
	}
	theirs := t.TempDir() // a service user's own directory: it works as before
	if _, err := seal.LoadOrCreateIdentity(filepath.Join(theirs, "identity.age")); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{theirs, filepath.Join(theirs, "identity.age")} {
		if err := os.Chown(path, stranger, stranger); err != nil {
			t.Fatal(err)
		}
	}
	if err := start(theirs); err == nil || err.Error() != "it started" {
		t.Errorf("a directory of a service user: %v", err)
	}
	dir := t.TempDir()
	target := filepath.Join(t.TempDir(), "nologin")
	if err := os.Symlink(target, filepath.Join(dir, "lock")); err != nil {
		t.Fatal(err)
	}
	if err := start(dir); err == nil || !strings.Contains(err.Error(), "data-dir: ") {
		t.Errorf("the lock is a link: %v", err)
	}
	if _, err := os.Lstat(target); err == nil {
		t.Error("a file was created behind the link")
	}
}
