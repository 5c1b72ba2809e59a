package certfile_test

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/cert/certfile"
)

// inOrder lists the files of a set in the order in which they are replaced.
var inOrder = []string{"privkey.pem", "cert.pem", "chain.pem", "fullchain.pem", "haproxy.pem", "bundle.p12"}

func writeOneByOne(t *testing.T, l certfile.Layout, dir string, b *cert.Bundle) {
	t.Helper()
	if err := l.WriteOneByOne(t.Context(), dir, b, certfile.Claim{}); err != nil {
		t.Fatal(err)
	}
	for _, name := range inOrder[:4] {
		if info, err := os.Lstat(filepath.Join(dir, name)); err != nil || !info.Mode().IsRegular() {
			t.Fatalf("%s is no regular file: %v (%v)", name, info, err)
		}
	}
	has(t, dir, b)
	if !l.Holds(dir, b) {
		t.Error("Holds does not find the set")
	}
}

// Systems without links get regular files, and no trace of earlier sets but one.
func TestOneByOne(t *testing.T) { // X46
	base := t.TempDir()
	dir, all := filepath.Join(base, "out"), newEverything(t, base)
	for serial := range int64(4) {
		writeOneByOne(t, all, dir, bundle(t, serial+1))
	}
	if left := versionsIn(t, dir); len(left) != 2 {
		t.Errorf("left behind: %q", left)
	}
	for name, mode := range map[string]os.FileMode{"privkey.pem": 0o600, "fullchain.pem": 0o644, "haproxy.pem": 0o600} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != mode && runtime.GOOS != "windows" {
			t.Errorf("%s: %v (%v)", name, info, err)
		}
	}
	// A smaller layout removes its own copies, and no file of another program.
	if err := os.WriteFile(filepath.Join(dir, "bundle.p12"), []byte("another program's"), 0o600); err != nil {
		t.Fatal(err)
	}
	if (certfile.Layout{}).Holds(dir, bundle(t, 4)) {
		t.Error("Holds overlooks a file that no longer belongs to the set")
	}
	writeOneByOne(t, certfile.Layout{}, dir, bundle(t, 5))
	if _, err := os.Lstat(filepath.Join(dir, "haproxy.pem")); err == nil {
		t.Error("haproxy.pem stays")
	}
	if text, err := os.ReadFile(filepath.Join(dir, "bundle.p12")); err != nil || string(text) != "another program's" {
		t.Errorf("bundle.p12 has %q (%v)", text, err)
	}
}

// crash puts dir into the state of a crash after that many files were replaced.
func crash(t *testing.T, dir string, replaced int) {
	t.Helper()
	pointer, err := os.ReadFile(filepath.Join(dir, ".acmeproxy", "current"))
	if err != nil {
		t.Fatal(err)
	}
	now, old := strings.TrimSpace(string(pointer)), ""
	for _, name := range versionsIn(t, dir) {
		if name != now && name != "owner" {
			old = name
		}
	}
	for _, name := range inOrder[replaced:] {
		previous, err := os.ReadFile(filepath.Join(dir, ".acmeproxy", old, name))
		if err == nil {
			err = os.Rename(filepath.Join(dir, name), filepath.Join(dir, ".acmeproxy", now, "link-"+name))
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), previous, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// A crash between two files loses nothing: Read finds the complete set, Finish installs
// it without help, and so does the next Write.
func TestOneByOneCrash(t *testing.T) { // X46
	for replaced := range inOrder {
		base := t.TempDir()
		dir, all, owner := filepath.Join(base, "out"), newEverything(t, base), owner(t, "a")
		claim := certfile.Claim{Owner: owner}
		first, second := bundle(t, 1), bundle(t, 2)
		for _, b := range []*cert.Bundle{first, second} {
			if err := all.WriteOneByOne(t.Context(), dir, b, claim); err != nil {
				t.Fatal(err)
			}
		}
		crash(t, dir, replaced)
		has(t, dir, all2(replaced, first, second))
		if all.Holds(dir, second) {
			t.Errorf("%d: Holds overlooks the files of the first set", replaced)
		}
		if err := all.Claimable(dir, claim); err != nil {
			t.Errorf("%d: %v", replaced, err)
		}
		if err := certfile.Finish(t.Context(), dir); err != nil {
			t.Fatal(err)
		}
		has(t, dir, second)
		if !all.Holds(dir, second) {
			t.Errorf("%d: Finish left a file of the first set", replaced)
		}
		crash(t, dir, replaced)
		if err := all.WriteOneByOne(t.Context(), dir, second, claim); err != nil {
			t.Fatal(err)
		}
		if !all.Holds(dir, second) {
			t.Errorf("%d: Write left a file of the first set", replaced)
		}
		if left := versionsIn(t, dir); len(left) != 3 { // with the owner
			t.Errorf("%d: left behind: %q", replaced, left)
		}
	}
}

// all2 returns the set that the PEM files hold after a crash: before the first file is
// replaced, the first set is whole.
func all2(replaced int, first, second *cert.Bundle) *cert.Bundle {
	if replaced == 0 {
		return first
	}
	return second
}

// If a file cannot be replaced, those before it are put back, or removed if there were
// none.
func TestOneByOneFails(t *testing.T) { // X46
	for _, first := range []bool{true, false} {
		base := t.TempDir()
		dir, old := filepath.Join(base, "out"), bundle(t, 1)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if !first {
			writeOneByOne(t, certfile.Layout{}, dir, old)
		}
		foreign, blocked := filepath.Join(dir, "haproxy.pem"), filepath.Join(dir, "fullchain.pem")
		if err := os.WriteFile(foreign, []byte("another program's"), 0o600); err != nil {
			t.Fatal(err)
		}
		before := filesIn(t, dir)
		block := certfile.Claim{Owner: owner(t, "a"), Force: true, Copied: func(path string) {
			if err := os.Remove(path); err != nil {
				t.Error(err)
			}
			if info, err := os.Stat(blocked); err == nil && info.IsDir() {
				return // the copy was removed, so another one was made
			}
			_ = os.Rename(blocked, blocked+".aside")
			if err := os.Mkdir(blocked, 0o755); err != nil {
				t.Error(err)
			}
		}}
		haproxy := certfile.Layout{Formats: []string{certfile.FormatHAProxy}}
		if err := haproxy.WriteOneByOne(t.Context(), dir, bundle(t, 2), block); err == nil {
			t.Fatal("no error")
		}
		if err := os.Remove(blocked); err != nil {
			t.Fatal(err)
		}
		_ = os.Rename(blocked+".aside", blocked)
		if now := filesIn(t, dir); !maps.Equal(now, before) {
			t.Errorf("first %v: the files are %q, want %q", first, slices.Sorted(maps.Keys(now)), slices.Sorted(maps.Keys(before)))
		}
		if !first && !(certfile.Layout{}).Holds(dir, old) {
			t.Error("the old set is not whole")
		}
		writeOneByOne(t, certfile.Layout{}, dir, bundle(t, 3))
	}
}

// filesIn returns the content of the regular files in dir, by name.
func filesIn(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, e := range entries {
		if !e.Type().IsRegular() {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all[e.Name()] = string(text)
	}
	return all
}

// Finish changes nothing where nothing is unfinished.
func TestFinishNothing(t *testing.T) { // X46
	dir := t.TempDir()
	for range 2 {
		if err := certfile.Finish(t.Context(), dir); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Lstat(filepath.Join(dir, ".acmeproxy")); err == nil {
			t.Fatal("it created a folder")
		}
	}
	if err := certfile.Finish(t.Context(), filepath.Join(dir, "missing")); err != nil {
		t.Error(err)
	}
	write(t, dir, bundle(t, 1))
	if err := certfile.Finish(t.Context(), dir); err != nil {
		t.Error(err)
	}
	has(t, dir, bundleIn(t, dir))
}

func bundleIn(t *testing.T, dir string) *cert.Bundle {
	t.Helper()
	b, err := certfile.Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The owner of a folder may create any number of versions, of which few are read.
func TestCopyIsComparedWithFewVersions(t *testing.T) { // X43
	dir, b, plain := t.TempDir(), bundle(t, 1), certfile.Layout{}
	writeOneByOne(t, certfile.Layout{Formats: []string{"haproxy"}}, dir, b)
	if plain.Holds(dir, b) {
		t.Error("haproxy.pem, a copy of the current version's, is not found")
	}
	text, err := os.ReadFile(filepath.Join(dir, "haproxy.pem"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 { // newer ones of the same size
		version := filepath.Join(dir, ".acmeproxy", fmt.Sprintf("20990101T000000-%d", i))
		if err := os.Mkdir(version, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(version, "haproxy.pem"), bytes.Repeat([]byte("x"), len(text)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if !plain.Holds(dir, b) {
		t.Error("more versions were compared than can be ours")
	}
}
