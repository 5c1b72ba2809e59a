// Package smalldisk mounts a small file system for a test, which can fill it.
package smalldisk

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// Disk is a mounted tmpfs.
type Disk struct{ Dir string }

// Mount mounts a new file system of that many bytes until the test ends. If this
// user may not mount, it skips the test.
func Mount(t testing.TB, bytes int) Disk {
	t.Helper()
	d := Disk{t.TempDir()}
	if err := unix.Mount("tmpfs", d.Dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, fmt.Sprintf("size=%d,mode=755", bytes)); err != nil {
		t.Skipf("NOT TESTED: cannot mount a small file system: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(d.Dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", d.Dir, err)
		}
	})
	return d
}

const filler = "filler"

// Fill fills the disk except for free bytes.
func (d Disk) Fill(t testing.TB, free int) {
	t.Helper()
	path := filepath.Join(d.Dir, filler)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := io.Copy(f, zeros{}); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("%v, want a full disk", err)
	}
	info, err := f.Stat()
	if err == nil {
		err = f.Truncate(max(0, info.Size()-int64(free)))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Clear undoes Fill.
func (d Disk) Clear(t testing.TB) {
	t.Helper()
	if err := os.Remove(filepath.Join(d.Dir, filler)); err != nil {
		t.Fatal(err)
	}
}

// zeros is a reader of endless zeros.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
