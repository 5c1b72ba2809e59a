//go:build unix

package localfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"
)

// ErrLocked means that another process, or another open file, holds the lock.
var ErrLocked = errors.New("another process holds the lock")

// TryLock locks an open file against other processes and other open files of this
// process, until Unlock, or until the file is closed. It does not wait.
func TryLock(f *os.File) error {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, unix.EINTR) {
		return ErrLocked
	}
	return err
}

// Unlock releases the lock, also for a child process that inherited the file.
func Unlock(f *os.File) error { return unix.Flock(int(f.Fd()), unix.LOCK_UN) }

// IsFull reports whether err means that a disk or a quota is full.
func IsFull(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
}

// MkdirPrivate creates a folder that only this user and administrators can use, and
// the folders above it. It does not change an existing folder.
func MkdirPrivate(path string) error { return os.MkdirAll(path, 0o700) }

// Pending is a private file that replaces another one atomically, or is removed.
type Pending = renameio.PendingFile

// NewPending creates a file that replaces path. It is private, and in the same folder.
func NewPending(path string) (*Pending, error) {
	// Without WithTempDir, renameio could write secrets to /tmp, where no later run
	// finds them.
	return renameio.NewPendingFile(path, renameio.WithTempDir(filepath.Dir(path)), renameio.WithStaticPermissions(0o600))
}

// SetMode sets the mode of an open file or folder, whatever the umask. Windows has no
// modes.
func SetMode(f *os.File, mode fs.FileMode) error { return f.Chmod(mode) }

// GiveToOwner gives a file to the owner and the group of another one.
func GiveToOwner(f *os.File, other fs.FileInfo) error {
	stat, ok := other.Sys().(*syscall.Stat_t)
	if !ok {
		return errors.ErrUnsupported
	}
	return f.Chown(int(stat.Uid), int(stat.Gid))
}

// SyncDir makes the names in an open folder durable. Windows does that itself.
func SyncDir(d *os.File) error { return d.Sync() }

// Rename moves a name between two opened folders. The folders' own names do not
// matter, so no other process can exchange them in between.
func Rename(from *os.Root, old string, to *os.Root, name string) error {
	src, err := from.Open(".")
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := to.Open(".")
	if err != nil {
		return err
	}
	defer dst.Close()
	if err := unix.Renameat(int(src.Fd()), old, int(dst.Fd()), name); err != nil {
		return &os.PathError{Op: "rename", Path: filepath.Join(to.Name(), name), Err: err}
	}
	return nil
}

// Unlink removes a file or a link, and nothing of another kind. A missing name is not
// an error.
func Unlink(dir *os.Root, name string) error { return unlinkAt(dir, name, 0) }

// ErrInUse is the error of UnlinkFolder for a name that is no empty folder.
var ErrInUse = errors.New("it is not an empty folder")

// UnlinkFolder removes an empty folder. A missing name is not an error.
func UnlinkFolder(dir *os.Root, name string) error {
	err := unlinkAt(dir, name, unix.AT_REMOVEDIR)
	if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.EBUSY) {
		return ErrInUse
	}
	return err
}

func unlinkAt(dir *os.Root, name string, flags int) error {
	d, err := dir.Open(".")
	if err != nil {
		return err
	}
	defer d.Close()
	if err := unix.Unlinkat(int(d.Fd()), name, flags); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return &os.PathError{Op: "remove", Path: filepath.Join(dir.Name(), name), Err: err}
	}
	return nil
}
