package certfile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/localfile"
)

// folder holds an output folder that is opened and locked. Every operation is
// relative to the two opened folders, because their owner may replace names at any
// time.
type folder struct {
	out  *os.Root
	sets *os.Root // .acmeproxy in out
	lock *os.File // in sets; locked while the folder is open
}

// lockFor is how long openFolder waits for another process. A set is written in
// milliseconds, but the owner of the folder could hold the lock forever.
const (
	lockFor   = 30 * time.Second
	lockEvery = 20 * time.Millisecond
)

// openFolder creates dir if necessary, opens it and locks it. If .acmeproxy or the
// lock was replaced before the lock was acquired, it starts again.
func openFolder(ctx context.Context, dir string) (*folder, error) {
	deadline := time.Now().Add(lockFor)
	for {
		f, err := openOnce(ctx, dir, deadline)
		if !errors.Is(err, errReplaced) || time.Now().After(deadline) {
			return f, err
		}
		if err := pause(ctx); err != nil {
			return nil, fmt.Errorf("lock %s: %w", dir, err)
		}
	}
}

var errReplaced = errors.New("it was replaced while it was locked")

func openOnce(ctx context.Context, dir string, deadline time.Time) (_ *folder, err error) {
	f := &folder{}
	defer func() {
		if err != nil {
			f.close()
		}
	}()
	if f.out, err = openOutput(dir); err != nil {
		return nil, err
	}
	if err = localfile.MakeDir(f.out, versions); err != nil {
		return nil, err
	}
	if f.sets, err = localfile.OpenDir(f.out, versions); err != nil {
		return nil, err
	}
	if f.lock, err = openLock(f.sets); err != nil {
		return nil, err
	}
	if err = acquire(ctx, f.lock, deadline); err != nil {
		return nil, err
	}
	if err = f.unchanged(); err != nil {
		return nil, err
	}
	return f, nil
}

func (f *folder) close() {
	if f.lock != nil {
		f.lock.Close() // which unlocks it
	}
	if f.sets != nil {
		f.sets.Close()
	}
	if f.out != nil {
		f.out.Close()
	}
}

// unchanged returns an error unless the names still lead to the opened files.
// Another process locks the files that the names lead to.
func (f *folder) unchanged() error {
	for _, c := range []struct {
		root *os.Root
		name string
		stat func() (fs.FileInfo, error)
	}{
		{f.out, versions, func() (fs.FileInfo, error) { return f.sets.Stat(".") }},
		{f.sets, lockName, f.lock.Stat},
	} {
		named, err := c.root.Lstat(c.name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		opened, openErr := c.stat()
		if openErr != nil {
			return openErr
		}
		if err != nil || !os.SameFile(named, opened) {
			return fmt.Errorf("%s: %w", filepath.Join(c.root.Name(), c.name), errReplaced)
		}
	}
	return nil
}

// openOutput opens dir. It creates dir and the folders above it (mode 0755) if
// necessary. Each is created in an opened folder, so that no link of another user
// leads elsewhere.
func openOutput(dir string) (*os.Root, error) {
	out, err := localfile.OpenFolder(dir)
	above := filepath.Dir(dir)
	if !errors.Is(err, fs.ErrNotExist) || above == dir {
		return out, err
	}
	parent, err := openOutput(above)
	if err != nil {
		return nil, err
	}
	defer parent.Close()
	if err := localfile.MakeDir(parent, filepath.Base(dir)); err != nil {
		return nil, err
	}
	return localfile.OpenFolder(dir)
}

// openLock opens the lock file. It refuses a link, and does not block on a pipe.
func openLock(sets *os.Root) (*os.File, error) {
	path := filepath.Join(sets.Name(), lockName)
	info, err := sets.Lstat(lockName)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file; remove it", path)
	}
	return sets.OpenFile(lockName, os.O_RDWR|os.O_CREATE|localfile.NoLinkNoWait, 0o600)
}

// acquire locks the file against other processes until it is closed.
func acquire(ctx context.Context, lock *os.File, deadline time.Time) error {
	for {
		err := localfile.TryLock(lock)
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, localfile.ErrLocked):
			return fmt.Errorf("lock %s: %w", lock.Name(), err)
		case time.Now().After(deadline):
			return fmt.Errorf("%s: another process has held this lock for %v; find it with fuser and stop it", lock.Name(), lockFor)
		}
		if err := pause(ctx); err != nil {
			return fmt.Errorf("lock %s: %w", lock.Name(), err)
		}
	}
}

// pause waits between two attempts to lock a folder.
func pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(lockEvery):
		return nil
	}
}

// inUse returns the name of the current version, or an empty string.
func (f *folder) inUse() string {
	name, err := f.sets.Readlink(current)
	if err != nil {
		return readPointer(f.sets, current)
	}
	return name
}

// vacant returns an error for names of a set that no file can replace: folders and
// mount points.
func vacant(out *os.Root, names []string) error {
	d, err := out.Open(".")
	if err != nil {
		return err
	}
	defer d.Close()
	for _, name := range append([]string{filepath.Join(versions, current)}, names...) {
		path := filepath.Join(out.Name(), name)
		if info, err := out.Lstat(name); err == nil && info.IsDir() {
			return fmt.Errorf("%s is a folder, where a file belongs; move it away", path)
		}
		if isMountPoint(d, name) {
			return fmt.Errorf("%s is a mount point, which cannot be replaced; unmount it, and mount the folder instead", path)
		}
	}
	return nil
}

func syncDir(dir *os.Root) error {
	d, err := dir.Open(".")
	if err != nil {
		return err
	}
	defer d.Close()
	if err := localfile.SyncDir(d); err != nil {
		return fmt.Errorf("sync %s: %w", filepath.Clean(dir.Name()), err)
	}
	return nil
}
