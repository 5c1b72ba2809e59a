package certfile_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/acmeproxy/acmeproxy/pkg/cert/certfile"
)

// asNobody runs f without root's power to write everywhere, which belongs to
// the thread.
func asNobody(t *testing.T, f func()) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		err := unix.Setfsuid(65534)
		if err == nil {
			f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// A folder that cannot be written to keeps the set that it has.
func TestUnwritable(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "web1")
	b := bundle(t, 1)
	write(t, dir, b)
	for _, path := range []string{dir, filepath.Join(dir, ".acmeproxy")} {
		if err := os.Chmod(path, 0o555); err != nil {
			t.Fatal(err)
		}
		defer os.Chmod(path, 0o755) // for the cleanup, where we are not root
	}
	next := bundle(t, 2)
	asNobody(t, func() {
		if err := certfile.Write(t.Context(), dir, next); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("%v, want fs.ErrPermission", err)
		}
	})
	has(t, dir, b)
	if left := versionsIn(t, dir); len(left) != 1 {
		t.Errorf("left behind: %q", left)
	}
}
