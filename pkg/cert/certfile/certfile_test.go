//go:build unix

package certfile_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/cert/certfile"
)

// childVariable makes the test program write every format to the folder it
// names until it is killed.
const childVariable = "CERTFILE_TEST_WRITE_TO"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childVariable); dir != "" {
		for serial := int64(1); ; serial++ {
			b, err := newBundle(serial)
			if err == nil {
				err = everything(filepath.Dir(dir)).Write(context.Background(), dir, b)
			}
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
		}
	}
	os.Exit(m.Run())
}

func TestFiles(t *testing.T) { // A5, A6
	dir := filepath.Join(t.TempDir(), "certs", "web1")
	for serial := int64(1); serial <= 4; serial++ {
		b := bundle(t, serial)
		write(t, dir+"/", b)
		key, err := b.KeyPEM()
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string][]byte{
			"privkey.pem": key, "cert.pem": b.LeafPEM(), "chain.pem": b.ChainPEM(), "fullchain.pem": b.FullchainPEM(),
		} {
			if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s: %v\n%s", name, err, got)
			}
		}
		has(t, dir, b)
		if n := len(versionsIn(t, dir)); n > 2 {
			t.Errorf("%d versions are kept, want the current one and the one before", n)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 5 {
		t.Errorf("%d entries in the folder, want .acmeproxy and four names: %v", len(entries), entries)
	}
}

// The key is for its owner only and the certificates are for all, under every
// umask.
func TestModes(t *testing.T) { // A5
	for _, umask := range []int{0, 0o022, 0o077} {
		dir := filepath.Join(t.TempDir(), "web1")
		old := unix.Umask(umask)
		err := certfile.Write(t.Context(), dir, bundle(t, 1))
		unix.Umask(old)
		if err != nil {
			t.Fatalf("umask %03o: %v", umask, err)
		}
		for name, want := range map[string]fs.FileMode{
			"": 0o755, ".acmeproxy": 0o755, ".acmeproxy/current/": 0o755,
			"privkey.pem": 0o600, "cert.pem": 0o644, "chain.pem": 0o644, "fullchain.pem": 0o644,
		} {
			info, err := os.Stat(dir + "/" + name)
			if err != nil {
				t.Fatal(err)
			}
			if got := info.Mode().Perm(); got != want {
				t.Errorf("umask %03o: mode of %q is %03o, want %03o", umask, name, got, want)
			}
		}
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, dir, bundle(t, 1))
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the mode of a folder that was there is now %v (%v)", info.Mode(), err)
	}
}

// A reader that resolves the link once has one set; Read always has.
func TestSwapIsAtomic(t *testing.T) {
	dir := t.TempDir()
	pair := []*cert.Bundle{bundle(t, 1), bundle(t, 2)}
	write(t, dir, pair[0])
	done := make(chan struct{})
	var readers sync.WaitGroup
	reader := func(read func() (*cert.Bundle, error)) {
		readers.Go(func() {
			for reads := 0; ; reads++ {
				select {
				case <-done:
					if reads == 0 {
						t.Error("nothing was read")
					}
					return
				default:
				}
				switch b, err := read(); {
				case errors.Is(err, errPruned):
				case err != nil:
					t.Error(err)
				case b.Key == nil:
					t.Error("a set without a key")
				}
			}
		})
	}
	reader(func() (*cert.Bundle, error) { return snapshot(dir) })
	reader(func() (*cert.Bundle, error) { return certfile.Read(dir) })
	for i := range 60 {
		write(t, dir, pair[i%2])
	}
	close(done)
	readers.Wait()
}

var errPruned = errors.New("two sets came since")

// snapshot reads key and chain of one version.
func snapshot(dir string) (*cert.Bundle, error) {
	version, err := filepath.EvalSymlinks(filepath.Join(dir, ".acmeproxy", "current"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errPruned
	}
	if err != nil {
		return nil, err
	}
	var text []byte
	for _, name := range []string{"privkey.pem", "fullchain.pem"} {
		data, err := os.ReadFile(filepath.Join(version, name))
		if errors.Is(err, fs.ErrNotExist) {
			return nil, errPruned
		}
		if err != nil {
			return nil, err
		}
		text = append(text, data...)
	}
	return cert.ParseBundle(text) // an error if the key is another's
}

// Writers of several processes do not prune each other's work; two open files
// are two owners of the lock, as two processes are.
func TestConcurrentWriters(t *testing.T) {
	dir := t.TempDir()
	pair := []*cert.Bundle{bundle(t, 1), bundle(t, 2)}
	var writers sync.WaitGroup
	for _, b := range pair {
		writers.Go(func() {
			for range 15 {
				if err := certfile.Write(t.Context(), dir, b); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	if _, err := certfile.Read(dir); err != nil {
		t.Error(err)
	}
}

// kill -9 at any moment leaves a whole set, and the next Write cleans up (X7).
func TestKilledWriter(t *testing.T) { // X10, too: of all formats
	dir := filepath.Join(t.TempDir(), "set")
	all := newEverything(t, filepath.Dir(dir))
	current := filepath.Join(dir, ".acmeproxy", "current")
	write(t, dir, bundle(t, 1000))
	for round := range 6 {
		child := exec.CommandContext(t.Context(), os.Args[0])
		child.Env = append(os.Environ(), childVariable+"="+dir)
		child.Stderr = os.Stderr
		before, err := os.Readlink(current)
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(30 * time.Second); ; {
			if now, err := os.Readlink(current); err == nil && now != before {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("the child wrote nothing")
			}
		}
		for range round * 40 { // and a little further into the next one
			if _, err := os.Readlink(current); err != nil {
				t.Fatal(err)
			}
		}
		if err := child.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := child.Wait(); err == nil {
			t.Fatal("the child ended early")
		}
		whole, err := certfile.Read(dir)
		if err != nil {
			t.Fatal(err)
		}
		// The next Write repairs the result of a crash between the swap and the first links.
		if _, err := os.Lstat(filepath.Join(dir, certfile.PKCS12)); err == nil && !all.Holds(dir, whole) {
			t.Error("the formats are not of one set")
		}
	}
	b := bundle(t, 1001)
	write(t, dir, b)
	has(t, dir, b)
	if left := versionsIn(t, dir); len(left) > 2 {
		t.Errorf("left behind: %q", left)
	}
}

// What a crash left is removed, and not the version that was in use.
func TestPrune(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, bundle(t, 1))
	first, err := os.Readlink(filepath.Join(dir, ".acmeproxy", "current"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"00000000T000000-1", "99991231T235959-2"} {
		leftover := filepath.Join(dir, ".acmeproxy", name)
		if err := os.Mkdir(leftover, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(leftover, "privkey.pem"), []byte("half a k"), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, link := range []string{"link", "link-current", "link-privkey.pem", "link-bundle.p12"} { // "link" of older programs
			if err := os.Symlink("anything", filepath.Join(leftover, link)); err != nil {
				t.Fatal(err)
			}
		}
	}
	write(t, dir, bundle(t, 2))
	second, err := os.Readlink(filepath.Join(dir, ".acmeproxy", "current"))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{first, second}
	slices.Sort(want)
	if got := versionsIn(t, dir); !slices.Equal(got, want) {
		t.Errorf("versions %q, want %q", got, want)
	}
}

// Write replaces files with the four names, such as certbot's, and planted links. It
// does not write through them.
func TestNothingIsWrittenThroughALink(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	victim := filepath.Join(outside, "victim")
	if err := os.WriteFile(victim, []byte("untouched"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, ".acmeproxy"), 0o755); err != nil {
		t.Fatal(err)
	}
	for path, target := range map[string]string{
		"privkey.pem": victim, "cert.pem": filepath.Join(outside, "new"), "fullchain.pem": outside, ".acmeproxy/current": outside,
	} {
		if err := os.Symlink(target, filepath.Join(dir, path)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "chain.pem"), []byte("certbot's"), 0o644); err != nil {
		t.Fatal(err)
	}
	b := bundle(t, 1)
	write(t, dir, b)
	has(t, dir, b)
	if got, err := os.ReadFile(victim); err != nil || string(got) != "untouched" {
		t.Errorf("the victim now reads %q (%v)", got, err)
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) != 1 {
		t.Errorf("outside: %v, %v; want the victim alone", entries, err)
	}
	if info, err := os.Stat(outside); err != nil || info.Mode().Perm() == 0 {
		t.Errorf("%v, %v", info, err)
	}
}

func TestFoldersThatAreLinks(t *testing.T) {
	outside, b := t.TempDir(), bundle(t, 1)
	for _, name := range []string{".acmeproxy", ".acmeproxy/lock"} {
		dir := t.TempDir()
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(filepath.Join(outside, "x"), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		if err := certfile.Write(t.Context(), dir, b); err == nil {
			t.Errorf("%s is a link and was followed", name)
		}
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) != 0 {
		t.Errorf("outside: %v, %v; want nothing", entries, err)
	}
	// The folder itself is the administrator's choice.
	folder := t.TempDir()
	alias := filepath.Join(t.TempDir(), "alias")
	if err := os.Symlink(folder, alias); err != nil {
		t.Fatal(err)
	}
	write(t, alias, b)
	has(t, folder, b)
}

// A set that cannot be published leaves the old one, and no copy of the key.
func TestFailedPublish(t *testing.T) {
	dir := t.TempDir()
	blocked := filepath.Join(dir, ".acmeproxy", "current", "is a folder")
	if err := os.MkdirAll(blocked, 0o755); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := certfile.Write(t.Context(), dir, bundle(t, 1)); err == nil {
			t.Fatal("a folder was replaced")
		}
	}
	if left := versionsIn(t, dir); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
	if err := os.RemoveAll(filepath.Join(dir, ".acmeproxy", "current")); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "chain.pem", "is a folder"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := certfile.Write(t.Context(), dir, bundle(t, 1)); err == nil {
		t.Fatal("a folder was replaced")
	}
	if err := os.RemoveAll(filepath.Join(dir, "chain.pem")); err != nil {
		t.Fatal(err)
	}
	b := bundle(t, 2)
	write(t, dir, b)
	has(t, dir, b)
}

func TestWriteNeedsAKey(t *testing.T) {
	dir, b := t.TempDir(), bundle(t, 1)
	b.Key = nil
	if err := certfile.Write(t.Context(), dir, b); err == nil || !strings.Contains(err.Error(), "no key") {
		t.Errorf("%v, want an error that there is no key", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("%v, %v; want nothing", entries, err)
	}
}

// Read refuses a set with a missing, damaged or foreign file. The caller then writes
// it again.
func TestReadRefuses(t *testing.T) {
	other := bundle(t, 2)
	otherKey, err := other.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(dir string) error{
		"no key":              func(dir string) error { return os.Remove(filepath.Join(dir, "privkey.pem")) },
		"no certificate":      func(dir string) error { return os.Remove(filepath.Join(dir, "cert.pem")) },
		"no chain":            func(dir string) error { return os.Remove(filepath.Join(dir, "chain.pem")) },
		"no full chain":       func(dir string) error { return os.Remove(filepath.Join(dir, "fullchain.pem")) },
		"no version":          func(dir string) error { return os.Remove(filepath.Join(dir, ".acmeproxy", "current")) },
		"empty key":           func(dir string) error { return replace(dir, "privkey.pem", nil) },
		"other key":           func(dir string) error { return replace(dir, "privkey.pem", otherKey) },
		"other certificate":   func(dir string) error { return replace(dir, "cert.pem", other.LeafPEM()) },
		"other chain":         func(dir string) error { return replace(dir, "chain.pem", other.ChainPEM()) },
		"other full chain":    func(dir string) error { return replace(dir, "fullchain.pem", other.FullchainPEM()) },
		"damaged certificate": func(dir string) error { return replace(dir, "cert.pem", []byte("x")) },
	} {
		dir, b := t.TempDir(), bundle(t, 1)
		write(t, dir, b)
		if err := change(dir); err != nil {
			t.Fatal(err)
		}
		_, err := certfile.Read(dir)
		if err == nil || errors.Is(err, fs.ErrNotExist) != strings.HasPrefix(name, "no ") {
			t.Errorf("%s: %v", name, err)
		}
		write(t, dir, b)
		has(t, dir, b)
	}
	if _, err := certfile.Read(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no folder: %v, want fs.ErrNotExist", err)
	}
}

// replace puts a regular file in the place of one of the names.
func replace(dir, name string, data []byte) error {
	path := filepath.Join(dir, name)
	return errors.Join(os.Remove(path), os.WriteFile(path, data, 0o600))
}
