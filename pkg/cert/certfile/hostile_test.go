//go:build linux

package certfile_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/acmeproxy/acmeproxy/internal/smalldisk"
	"github.com/acmeproxy/acmeproxy/pkg/cert/certfile"
)

// stranger is an unprivileged user, to whom an output folder may belong.
const stranger = 65534

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("NOT TESTED: only root can write for another user and play that user")
	}
}

// strangersFolder is a set in a folder that belongs to the stranger, and a victim
// outside with folders that look like ours and not.
func strangersFolder(t *testing.T) (out, victim string) {
	t.Helper()
	base := t.TempDir()
	for dir := base; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil { // the stranger can get there
			t.Fatal(err)
		}
	}
	out, victim = filepath.Join(base, "out"), filepath.Join(base, "victim")
	for _, dir := range []string{out, filepath.Join(victim, "data"), filepath.Join(victim, "20260101T000000-1")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(victim, "data", "file"), []byte("root's"), 0o600); err != nil {
		t.Fatal(err)
	}
	write(t, out, bundle(t, 1))
	for _, path := range []string{out, filepath.Join(out, ".acmeproxy")} {
		if err := os.Chown(path, stranger, stranger); err != nil {
			t.Fatal(err)
		}
	}
	return out, victim
}

func untouched(t *testing.T, victim string) {
	t.Helper()
	var got []string
	if err := filepath.WalkDir(victim, func(path string, _ fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(victim, path)
		got = append(got, rel)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if want := []string{".", "20260101T000000-1", "data", "data/file"}; !slices.Equal(got, want) {
		t.Errorf("the victim has %q, want %q", got, want)
	}
}

// Root waits for the lock, and the owner of the folder
// replaces .acmeproxy, or the lock, or the whole folder, before it is released.
// Whatever the owner does, nothing is written or removed elsewhere.
func TestFolderReplacedWhileLocked(t *testing.T) {
	needRoot(t)
	for name, swap := range map[string]func(out, victim string) error{
		".acmeproxy by a link": func(out, victim string) error {
			return errors.Join(os.Rename(out+"/.acmeproxy", out+"/old"), os.Symlink(victim, out+"/.acmeproxy"))
		},
		".acmeproxy by a link inside": func(out, _ string) error {
			return errors.Join(os.Rename(out+"/.acmeproxy", out+"/old"), os.Symlink("old", out+"/.acmeproxy"))
		},
		".acmeproxy by a folder": func(out, _ string) error {
			return errors.Join(os.Rename(out+"/.acmeproxy", out+"/old"), os.Mkdir(out+"/.acmeproxy", 0o777))
		},
		"the lock by a link": func(out, victim string) error {
			return errors.Join(os.Remove(out+"/.acmeproxy/lock"), os.Symlink(victim+"/data/file", out+"/.acmeproxy/lock"))
		},
		"the lock by a file": func(out, _ string) error {
			return errors.Join(os.Remove(out+"/.acmeproxy/lock"), os.WriteFile(out+"/.acmeproxy/lock", nil, 0o666))
		},
		"a version by a link": func(out, victim string) error {
			return os.Symlink(victim+"/data", out+"/.acmeproxy/20200101T000000-7")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, victim := strangersFolder(t)
			lock, err := os.OpenFile(filepath.Join(out, ".acmeproxy", "lock"), os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer lock.Close()
			if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
				t.Fatal(err)
			}
			next := bundle(t, 2)
			done := make(chan error, 1)
			go func() { done <- certfile.Write(t.Context(), out, next) }()
			waitsFor(t, lock)
			asNobody(t, func() {
				if err := swap(out, victim); err != nil {
					t.Error(err)
				}
			})
			if err := lock.Close(); err != nil {
				t.Fatal(err)
			}
			if err := <-done; err == nil {
				has(t, out, next)
			} else if !strings.Contains(err.Error(), "replaced") && !strings.Contains(err.Error(), "remove it") &&
				!strings.Contains(err.Error(), "symbolic link") {
				t.Errorf("%v; want an error that says what is wrong", err)
			}
			untouched(t, victim)
		})
	}
}

// waitsFor returns when this process has the file open twice: the writer has
// opened the lock that the test holds.
func waitsFor(t *testing.T, lock *os.File) {
	t.Helper()
	var want, got unix.Stat_t
	if err := unix.Fstat(int(lock.Fd()), &want); err != nil {
		t.Fatal(err)
	}
	for {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, e := range entries {
			if unix.Stat("/proc/self/fd/"+e.Name(), &got) == nil && got.Dev == want.Dev && got.Ino == want.Ino {
				n++
			}
		}
		if n >= 2 {
			return
		}
		if t.Context().Err() != nil {
			t.Fatal("nothing waits for the lock")
		}
	}
}

// The owner of the parent leads root to a folder of root's by a link. A link to a
// folder of the owner's own still works.
func TestFolderBehindAStrangersLink(t *testing.T) {
	needRoot(t)
	out, victim := strangersFolder(t)
	link := filepath.Join(out, "link")
	if err := errors.Join(os.Symlink(victim, link), os.Lchown(link, stranger, stranger)); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{link, filepath.Join(link, "data")} {
		if err := certfile.Write(t.Context(), dir, bundle(t, 2)); err == nil || !strings.Contains(err.Error(), "symbolic link of nobody") {
			t.Errorf("%s: %v; want a refusal that names the link's owner", dir, err)
		}
	}
	untouched(t, victim)
	if err := os.Chown(victim, stranger, stranger); err != nil {
		t.Fatal(err)
	}
	b := bundle(t, 3)
	write(t, link, b)
	has(t, victim, b)
}

// Only folders with names of our own form are removed.
func TestPruneLeavesOthers(t *testing.T) {
	dir := t.TempDir()
	others := []string{"backup", "20260101T000000", "20260101T000000-1.old", "x20260101T000000-1", "20260101T000000-12345678901"}
	for _, name := range others {
		if err := os.MkdirAll(filepath.Join(dir, ".acmeproxy", name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for serial := range int64(3) {
		write(t, dir, bundle(t, serial+1))
	}
	left := versionsIn(t, dir)
	for _, name := range others {
		if !slices.Contains(left, name) {
			t.Errorf("%s was removed", name)
		}
	}
}

// A pipe instead of a file or of the lock is an error, not an endless wait.
func TestPipes(t *testing.T) {
	dir, b := t.TempDir(), bundle(t, 1)
	write(t, dir, b)
	for _, name := range []string{"privkey.pem", ".acmeproxy/lock"} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.Remove(path), unix.Mkfifo(path, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := certfile.Read(dir); err == nil {
		t.Error("a pipe was read")
	}
	if err := certfile.Write(t.Context(), dir, b); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("%v", err)
	}
}

// The folders that another user can change are named, with owner and remedy; our
// own and root's are not.
func TestRisk(t *testing.T) {
	base := t.TempDir()
	own := filepath.Join(base, "own")
	if err := os.Mkdir(own, 0o755); err != nil {
		t.Fatal(err)
	}
	if risk := certfile.Risk(filepath.Join(own, "not", "yet")); risk != "" {
		t.Errorf("our own folder: %s", risk)
	}
	if err := os.Chmod(own, 0o777); err != nil {
		t.Fatal(err)
	}
	if risk := certfile.Risk(own); !strings.Contains(risk, "run chmod o-w "+own) {
		t.Errorf("a folder for everybody: %q", risk)
	}
	if err := os.Chmod(own, 0o777|fs.ModeSticky); err != nil {
		t.Fatal(err)
	}
	if risk := certfile.Risk(own); risk != "" {
		t.Errorf("a sticky folder: %s", risk)
	}
	needRoot(t)
	if err := errors.Join(os.Chmod(own, 0o755), os.Chown(own, stranger, stranger)); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{own, filepath.Join(own, "below"), filepath.Join(own, "not", "yet")} {
		if risk := certfile.Risk(dir); !strings.Contains(risk, own+" belongs to nobody") || !strings.Contains(risk, "run this as nobody") {
			t.Errorf("%s: %q", dir, risk)
		}
	}
	b := bundle(t, 1)
	write(t, own, b) // a service's folder keeps working
	has(t, own, b)
}

// A write that the disk has no room for leaves the old set, and no copy of
// the new key; and it is known before anything is ordered.
func TestFullDisk(t *testing.T) {
	disk := smalldisk.Mount(t, 1<<20)
	folder := t.TempDir()
	dir, all := filepath.Join(disk.Dir, "web1"), newEverything(t, folder)
	old := bundle(t, 1)
	if err := all.Probe(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(disk.Dir); err != nil || len(entries) != 0 {
		t.Errorf("a probe leaves %v, %v", entries, err)
	}
	writeAs(t, all, dir, old)
	for free := 0; free < 10<<12; free += 1 << 12 { // at each file of the set
		disk.Fill(t, free)
		if err := all.Write(t.Context(), dir, bundle(t, 2)); err == nil {
			if free == 0 {
				t.Error("written to a full disk")
			}
			break
		} else if !errors.Is(err, unix.ENOSPC) {
			t.Errorf("%d bytes free: %v", free, err)
		}
		if !all.Holds(dir, old) {
			t.Fatalf("%d bytes free: the old set is not whole", free)
		}
		if left := versionsIn(t, dir); len(left) != 1 {
			t.Fatalf("%d bytes free: left behind %q", free, left)
		}
		for _, err := range []error{all.Writable(dir), all.Probe(t.Context(), dir), all.Probe(t.Context(), filepath.Join(disk.Dir, "web2"))} {
			if !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), disk.Dir) {
				t.Errorf("%d bytes free: %v; want one that names the folder", free, err)
			}
		}
		disk.Clear(t)
	}
}

// A folder with the name of one of the files is an error that changes nothing.
func TestFolderInsteadOfAFile(t *testing.T) {
	for _, name := range []string{"cert.pem", "privkey.pem", "haproxy.pem"} {
		folder := t.TempDir()
		dir, all := filepath.Join(folder, "set"), certfile.Layout{Formats: []string{"haproxy"}}
		old := bundle(t, 1)
		writeAs(t, all, dir, old)
		current, err := os.Readlink(filepath.Join(dir, ".acmeproxy", "current"))
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, name)
		if err := errors.Join(os.Remove(path), os.Mkdir(path, 0o755)); err != nil {
			t.Fatal(err)
		}
		for _, err := range []error{all.Writable(dir), all.Probe(t.Context(), dir), all.Write(t.Context(), dir, bundle(t, 2))} {
			if err == nil || !strings.Contains(err.Error(), path+" is a folder") {
				t.Errorf("%s: %v", name, err)
			}
		}
		if now, err := os.Readlink(filepath.Join(dir, ".acmeproxy", "current")); err != nil || now != current {
			t.Errorf("%s: the current version is %q, %v; want the old one", name, now, err)
		}
		if left := versionsIn(t, dir); len(left) != 1 {
			t.Errorf("%s: left behind %q", name, left)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		b := bundle(t, 3)
		writeAs(t, all, dir, b)
	}
}

// An owner that this user cannot give files to is known before an order.
func TestProbeOwner(t *testing.T) {
	dir := t.TempDir()
	if os.Geteuid() == 0 {
		if err := (certfile.Layout{Owner: "nobody"}).Probe(t.Context(), dir); err != nil {
			t.Error(err)
		}
		return
	}
	if err := (certfile.Layout{Owner: "root"}).Probe(t.Context(), dir); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("%v, want fs.ErrPermission", err)
	}
}
