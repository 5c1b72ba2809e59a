package localfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
)

// ErrLocked means that another process, or another open file, holds the lock.
var ErrLocked = errors.New("another process holds the lock")

// farAway is the offset of the locked byte. Windows refuses access to locked bytes, so the
// byte is behind the file's content.
const farAway = 1 << 30

// TryLock locks an open file against other processes and other open files of this
// process, until Unlock, or until the file is closed. It does not wait.
func TryLock(f *os.File) error {
	const flags = windows.LOCKFILE_EXCLUSIVE_LOCK | windows.LOCKFILE_FAIL_IMMEDIATELY
	err := windows.LockFileEx(windows.Handle(f.Fd()), flags, 0, 1, 0, &windows.Overlapped{OffsetHigh: farAway})
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) || errors.Is(err, windows.ERROR_IO_PENDING) {
		return ErrLocked
	}
	return err
}

// Unlock releases the lock.
func Unlock(f *os.File) error {
	return windows.UnlockFileEx(windows.Handle(f.Fd()), 0, 1, 0, &windows.Overlapped{OffsetHigh: farAway})
}

// IsFull reports whether err means that a disk or a quota is full.
func IsFull(err error) bool {
	return errors.Is(err, windows.ERROR_DISK_FULL) || errors.Is(err, windows.ERROR_HANDLE_DISK_FULL) ||
		errors.Is(err, windows.ERROR_DISK_QUOTA_EXCEEDED)
}

// accessList returns the access list of our files and folders: all rights for this
// user, SYSTEM and Administrators, more for others, and nothing from the folder above.
func accessList(more string) (*windows.SECURITY_DESCRIPTOR, error) {
	me, err := currentUser()
	if err != nil {
		return nil, err
	}
	return windows.SecurityDescriptorFromString(
		fmt.Sprintf("D:P(A;OICI;FA;;;%s)(A;OICI;FA;;;%s)(A;OICI;FA;;;%s)%s", me, system, administrators, more))
}

// MkdirPrivate creates a folder that only this user and administrators can use, and
// the folders above it. It does not change an existing folder.
func MkdirPrivate(path string) error {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return nil
	}
	if above := filepath.Dir(path); above != path {
		if err := MkdirPrivate(above); err != nil {
			return err
		}
	}
	err := mkdirPrivate(path)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

func mkdirPrivate(path string) error {
	access, err := accessList("")
	if err != nil {
		return err
	}
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return &os.PathError{Op: "mkdir", Path: path, Err: err}
	}
	attributes := windows.SecurityAttributes{SecurityDescriptor: access}
	attributes.Length = uint32(unsafe.Sizeof(attributes))
	if err := windows.CreateDirectory(name, &attributes); err != nil {
		return &os.PathError{Op: "mkdir", Path: path, Err: err}
	}
	return nil
}

// setAccess sets the access list of a file. Programs that opened it before keep their
// rights, so callers set it before they write a secret.
func setAccess(path, more string) error {
	access, err := accessList(more)
	if err != nil {
		return err
	}
	acl, _, err := access.DACL()
	if err != nil {
		return err
	}
	const what = windows.DACL_SECURITY_INFORMATION | windows.PROTECTED_DACL_SECURITY_INFORMATION
	if err := windows.SetNamedSecurityInfo(path, windows.SE_FILE_OBJECT, what, nil, nil, acl, nil); err != nil {
		return &os.PathError{Op: "set access", Path: path, Err: err}
	}
	return nil
}

// Pending is a private file that replaces another one atomically, or is removed.
type Pending struct {
	*os.File
	path string
	done bool
}

// NewPending creates a file that replaces path. It is private, and in the same folder.
func NewPending(path string) (*Pending, error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"*")
	if err != nil {
		return nil, err
	}
	p := &Pending{File: f, path: path}
	if err := setAccess(f.Name(), ""); err != nil {
		return nil, errors.Join(err, p.Cleanup())
	}
	return p, nil
}

// CloseAtomicallyReplace writes the file to the disk and gives it its final name.
func (p *Pending) CloseAtomicallyReplace() error {
	if err := errors.Join(p.Sync(), p.Close()); err != nil {
		return err
	}
	if err := replace(p.Name(), p.path); err != nil {
		return err
	}
	p.done = true
	return nil
}

// Cleanup removes the file, unless it has its final name already.
func (p *Pending) Cleanup() error {
	if p.done {
		return nil
	}
	if err := p.Close(); err != nil && !errors.Is(err, fs.ErrClosed) {
		return err
	}
	return os.Remove(p.Name())
}

// Windows replaces no file that another program has open, such as a virus scanner.
const (
	replaceFor   = 2 * time.Second
	replaceEvery = 20 * time.Millisecond
)

// replace renames a file. While another program has the old one open, it tries again.
func replace(from, to string) error {
	for deadline := time.Now().Add(replaceFor); ; time.Sleep(replaceEvery) {
		err := os.Rename(from, to)
		busy := errors.Is(err, windows.ERROR_SHARING_VIOLATION) || errors.Is(err, windows.ERROR_ACCESS_DENIED)
		if !busy || time.Now().After(deadline) {
			return err
		}
	}
}

// SetMode makes an open file private, or readable for all users if others may read it
// by the mode. Windows has no modes. A folder inherits the access of the folder above.
func SetMode(f *os.File, mode fs.FileMode) error {
	info, err := f.Stat()
	if err != nil || info.IsDir() {
		return err
	}
	if mode&0o004 == 0 {
		return setAccess(f.Name(), "")
	}
	return setAccess(f.Name(), "(A;;FR;;;"+everyone+")")
}

// NewPrivate creates a private folder in an opened one.
func NewPrivate(parent *os.Root, name string) error {
	return mkdirPrivate(filepath.Join(parent.Name(), name))
}

// GiveToOwner gives a file to the owner of another one. Here it inherits its access.
func GiveToOwner(*os.File, fs.FileInfo) error { return errors.ErrUnsupported }

// SyncDir makes the names in an open folder durable. Windows does that itself.
func SyncDir(*os.File) error { return nil }

// Rename moves a name between two opened folders.
func Rename(from *os.Root, old string, to *os.Root, name string) error {
	return replace(filepath.Join(from.Name(), old), filepath.Join(to.Name(), name))
}

// Unlink removes a file or a link, and nothing of another kind. A missing name is not
// an error.
func Unlink(dir *os.Root, name string) error {
	path := filepath.Join(dir.Name(), name)
	return remove(path, windows.DeleteFile)
}

// ErrInUse is the error of UnlinkFolder for a name that is no empty folder.
var ErrInUse = errors.New("it is not an empty folder")

// UnlinkFolder removes an empty folder. A missing name is not an error.
func UnlinkFolder(dir *os.Root, name string) error {
	err := remove(filepath.Join(dir.Name(), name), windows.RemoveDirectory)
	if errors.Is(err, windows.ERROR_DIR_NOT_EMPTY) || errors.Is(err, windows.ERROR_DIRECTORY) || errors.Is(err, windows.ERROR_SHARING_VIOLATION) {
		return ErrInUse
	}
	return err
}

func remove(path string, with func(*uint16) error) error {
	name, err := windows.UTF16PtrFromString(path)
	if err == nil {
		err = with(name)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return &os.PathError{Op: "remove", Path: path, Err: err}
	}
	return nil
}
