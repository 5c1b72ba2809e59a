package certfile_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"golang.org/x/sys/unix"

	"github.com/acmeproxy/acmeproxy/pkg/cert/certfile"
)

// The owner of the folder replaces the link to the version all the time. Reading
// the set ends with an error, and so does everything that reads it.
func TestReadEnds(t *testing.T) {
	needRoot(t)
	out, _ := strangersFolder(t)
	old := bundle(t, 1)
	var done atomic.Bool
	var owner sync.WaitGroup
	asNobody(t, func() {
		for _, name := range []string{"privkey.pem", "cert.pem", "chain.pem", "fullchain.pem"} {
			path := filepath.Join(out, name)
			if err := errors.Join(os.Remove(path), os.WriteFile(path, make([]byte, 32<<10), 0o600)); err != nil {
				t.Error(err)
			}
		}
	})
	for process := range 2 {
		owner.Go(func() {
			asNobody(t, func() {
				aside := filepath.Join(out, fmt.Sprintf("aside-%d", process))
				for i := 0; !done.Load(); i++ {
					target := fmt.Sprintf("v%d-%d", process, i)
					if err := errors.Join(os.Symlink(target, aside), os.Rename(aside, out+"/.acmeproxy/current")); err != nil {
						t.Error(err)
						return
					}
				}
			})
		})
	}
	for refused := false; !refused && !t.Failed() && t.Context().Err() == nil; {
		_, err := certfile.Read(out)
		if err == nil {
			t.Fatal("a set without a certificate was read")
		}
		refused = strings.Contains(err.Error(), "changed 10 times while it was read")
	}
	if (certfile.Layout{}).Holds(out, old) {
		t.Error("a set without a certificate is held")
	}
	done.Store(true)
	owner.Wait()
	next := bundle(t, 2)
	write(t, out, next) // the owner has stopped
	has(t, out, next)
}

// rootsFolders puts folders of root's into dir, which it gives to the stranger. The
// stranger can rename them and cannot empty them.
func rootsFolders(t *testing.T, dir string) {
	t.Helper()
	for path, name := range map[string]string{
		"backup": "data", "nested": "folder/privkey.pem", "certificates": "privkey.pem", "links": "link-current",
	} {
		path = filepath.Join(dir, path)
		for _, name := range []string{name, "more"} {
			file := filepath.Join(path, name)
			if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, []byte("root's"), 0o600)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := errors.Join(os.Symlink("nowhere", dir+"/links/link-privkey.pem"), os.Chown(dir, stranger, stranger)); err != nil {
		t.Fatal(err)
	}
}

// contents returns the files of the folders in dir, by the content of each folder: the
// owner may rename the folders.
func contents(t *testing.T, dir string) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		var names []string
		if err := filepath.WalkDir(filepath.Join(dir, e.Name()), func(path string, _ fs.DirEntry, err error) error {
			rel, _ := filepath.Rel(filepath.Join(dir, e.Name()), path)
			names = append(names, rel)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		found[strings.Join(names, " ")] = true
	}
	return found
}

// The owner moves folders of root's into .acmeproxy, under names of versions.
// Pruning removes nothing of them, and fails at nothing.
func TestPruneLeavesRootsFolders(t *testing.T) {
	needRoot(t)
	out, _ := strangersFolder(t)
	sub := filepath.Join(out, "sub")
	if err := os.Mkdir(sub, 0o755); err != nil {
		t.Fatal(err)
	}
	rootsFolders(t, sub)
	want := contents(t, sub)
	asNobody(t, func() {
		if err := errors.Join(os.Rename(out+"/.acmeproxy", out+"/x"), os.Rename(sub, out+"/.acmeproxy")); err != nil {
			t.Fatal(err)
		}
		for i, name := range []string{"backup", "nested", "certificates", "links"} {
			version := fmt.Sprintf("%s/.acmeproxy/20200101T000000-%d", out, i)
			if err := os.Rename(filepath.Join(out, ".acmeproxy", name), version); err != nil {
				t.Error(err)
			}
		}
	})
	for serial := range int64(4) {
		next := bundle(t, serial+2)
		write(t, out, next)
		has(t, out, next)
	}
	got := contents(t, filepath.Join(out, ".acmeproxy"))
	for names := range want {
		if !got[names] {
			t.Errorf("a folder with %q is not whole: %q", names, slices.Sorted(maps.Keys(got)))
		}
	}
	if len(got) != len(want)+1 { // all versions have the same names
		t.Errorf("the folder has %q", slices.Sorted(maps.Keys(got)))
	}
}

// The owner exchanges the folder of a version for one of root's while root writes
// it, whatever step root is at. The folders of root's stay as they are.
func TestVersionReplacedWhileWritten(t *testing.T) {
	needRoot(t)
	out, _ := strangersFolder(t)
	sets := filepath.Join(out, ".acmeproxy")
	rootsFolders(t, sets)
	want := contents(t, sets)
	maps.DeleteFunc(want, func(names string, _ bool) bool { return strings.Contains(names, "cert.pem") }) // the set
	var done atomic.Bool
	var owner sync.WaitGroup
	var swaps atomic.Int64
	owner.Go(func() {
		asNobody(t, func() {
			for !done.Load() {
				entries, err := os.ReadDir(sets)
				if err != nil {
					t.Error(err)
					return
				}
				for _, e := range entries {
					if !strings.HasPrefix(e.Name(), "2026") {
						continue
					}
					path := filepath.Join(sets, e.Name())
					for _, name := range []string{"backup", "certificates"} {
						if unix.Renameat2(unix.AT_FDCWD, filepath.Join(sets, name), unix.AT_FDCWD, path, unix.RENAME_EXCHANGE) == nil {
							swaps.Add(1)
						}
					}
				}
			}
		})
	})
	for serial := int64(0); serial < 30 || swaps.Load() == 0 && t.Context().Err() == nil; serial++ {
		_ = certfile.Write(t.Context(), out, bundle(t, serial+2)) // the owner may make it fail
	}
	done.Store(true)
	owner.Wait()
	got := contents(t, sets)
	for names := range want {
		if !got[names] {
			t.Errorf("a folder with %q is not whole: %q", names, slices.Sorted(maps.Keys(got)))
		}
	}
}

// Root creates no folder behind a link of the stranger's, at any depth.
func TestFoldersAreCreatedBehindNoLink(t *testing.T) {
	needRoot(t)
	out, victim := strangersFolder(t)
	link := filepath.Join(out, "link")
	if err := errors.Join(os.Symlink(victim, link), os.Lchown(link, stranger, stranger)); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"new", "new/new", "data/new/new"} {
		if err := certfile.Write(t.Context(), filepath.Join(link, dir), bundle(t, 2)); err == nil {
			t.Errorf("%s: written", dir)
		}
	}
	untouched(t, victim)
	b, dir := bundle(t, 3), filepath.Join(out, "our", "own")
	write(t, dir, b)
	has(t, dir, b)
}

// The owner of the folder holds the lock for ever. A write and a probe end after a
// while, and at once when the process is to stop.
func TestLockIsBounded(t *testing.T) {
	dir := t.TempDir()
	b := bundle(t, 1)
	write(t, dir, b)
	lock, err := os.OpenFile(filepath.Join(dir, ".acmeproxy", "lock"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	stopped, stop := context.WithCancel(t.Context())
	stop()
	for name, waits := range map[string]func(ctx context.Context) error{
		"write": func(ctx context.Context) error { return certfile.Write(ctx, dir, b) },
		"probe": func(ctx context.Context) error { return certfile.Layout{}.Probe(ctx, dir) },
	} {
		if err := waits(stopped); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v, want context.Canceled", name, err)
		}
		synctest.Test(t, func(t *testing.T) {
			if err := waits(t.Context()); err == nil || !strings.Contains(err.Error(), "another process has held this lock for 30s") {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	has(t, dir, b)
}
