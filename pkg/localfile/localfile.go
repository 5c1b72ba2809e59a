// Package localfile protects this process from other users of the same host. It
// opens folders and reads files where another user may have placed, replaced or
// linked something.
//
//	data, err := localfile.Read("/var/lib/acmeproxy/identity.age") // *ForeignError if another user owns it
//	root, err := localfile.OpenFolder("/etc/ssl/web1")
//	if risk := localfile.Risk("/etc/ssl/web1"); risk != "" { … }
//
// A user is trusted if it is root or the user that this process runs as. A user
// who owns a folder decides what is in it, so naming the folder of an untrusted
// user means relying on that user: Risk says so, and Read does not refuse it. The
// package never changes what it checks.
package localfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// MaxSize bounds the files that Read and ReadAny read, in bytes.
const MaxSize = 4 << 20

// ForeignError reports a file that an untrusted user may have placed.
type ForeignError struct {
	Path string
	UID  uint32
}

func (e *ForeignError) Error() string {
	name := userName(e.UID)
	return fmt.Sprintf("%s belongs to %s, not to root or to this user, so %s may have put it there; run this as %s, or remove the file if nobody here made it, or run chown on it if it is yours",
		e.Path, name, name, name)
}

// Trusted reports whether files of this owner may be relied on.
func Trusted(uid uint32) bool { return uid == 0 || int64(uid) == int64(os.Geteuid()) }

// IsTrusted reports whether a trusted user owns what info describes.
func IsTrusted(info fs.FileInfo) bool { return Trusted(owner(info)) }

// Read returns the content of a file that must be safe to rely on: a key, an
// identity, a list of commands. It returns a *ForeignError if the file, or the link
// that path is, belongs to an untrusted user in another user's folder.
// fs.ErrNotExist means that there is none.
func Read(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.ELOOP) {
		if err = Check(path); err != nil {
			return nil, err
		}
		f, err = os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if uid := owner(info); !mayPlace(path, uid) {
		return nil, &ForeignError{Path: path, UID: uid}
	}
	return readRegular(f, info)
}

// Check returns the error of Read for a file that is there, and nil for none.
func Check(path string) error { return check(path, mayPlace) }

// CheckOwn is Check for a file that is about to be adopted: it refuses those of
// untrusted users in their own folders, too.
func CheckOwn(path string) error {
	return check(path, func(_ string, uid uint32) bool { return Trusted(uid) })
}

// check looks at the file and at the link that path may be.
func check(path string, allowed func(path string, uid uint32) bool) error {
	for _, look := range []func(string) (fs.FileInfo, error){os.Lstat, os.Stat} {
		info, err := look(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case !allowed(path, owner(info)):
			return &ForeignError{Path: path, UID: owner(info)}
		}
	}
	return nil
}

// mayPlace reports whether a file of this owner may be at path: the owner is
// trusted, or owns the folder.
func mayPlace(path string, uid uint32) bool {
	if Trusted(uid) {
		return true
	}
	folder, err := os.Stat(filepath.Dir(path))
	return err == nil && owner(folder) == uid
}

// ReadAny returns the content of a regular file of any owner. It follows links,
// and never waits for a named pipe or fills the memory.
func ReadAny(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return readRegular(f, info)
}

func readRegular(f *os.File, info fs.FileInfo) ([]byte, error) {
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", f.Name())
	}
	data, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err == nil && len(data) > MaxSize {
		err = fmt.Errorf("%s has more than %d bytes", f.Name(), MaxSize)
	}
	return data, err
}

func owner(info fs.FileInfo) uint32 {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return stat.Uid
	}
	return ^uint32(0) // no user's
}

// userName returns how to call a user in a message.
func userName(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return "user " + id
}
