// Package localfile protects this process from other users of the same host. It
// opens folders and reads files where another user may have placed, replaced or
// linked something.
//
//	data, err := localfile.Read("/var/lib/acmeproxy/identity.age") // *ForeignError if another user owns it
//	root, err := localfile.OpenFolder("/etc/ssl/web1")
//	if risk := localfile.Risk("/etc/ssl/web1"); risk != "" { … }
//
// A user is trusted if it is root or the user that this process runs as. The owner of
// a folder controls its content, so an administrator who names the folder of an
// untrusted user relies on that user. Risk reports this, and Read accepts it. The
// package never changes the files that it checks.
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
	return fmt.Sprintf("%s belongs to %s, not to root or to this user, so %s may have put it there; run this as %s, or remove the file if it is unknown, or run chown on it if it is yours",
		e.Path, name, name, name)
}

// Trusted reports whether this process can rely on files of this owner.
func Trusted(uid uint32) bool { return uid == 0 || int64(uid) == int64(os.Geteuid()) }

// IsTrusted reports whether a trusted user owns what info describes.
func IsTrusted(info fs.FileInfo) bool { return Trusted(owner(info)) }

// Read returns the content of a file that must be trustworthy: a key, an identity, a
// list of commands. It returns a *ForeignError if the file, or a link at path, belongs
// to an untrusted user in another user's folder. It returns fs.ErrNotExist if the file
// does not exist.
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

// Check returns a *ForeignError if Read would. It returns nil if the file does not
// exist.
func Check(path string) error { return check(path, mayPlace) }

// CheckOwn works like Check, but also returns a *ForeignError for a file of an
// untrusted user in that user's own folder. Call it before adopting a file.
func CheckOwn(path string) error {
	return check(path, func(_ string, uid uint32) bool { return Trusted(uid) })
}

// check checks the owner of path and, if path is a link, of its target.
func check(path string, allowed func(path string, uid uint32) bool) error {
	for _, stat := range []func(string) (fs.FileInfo, error){os.Lstat, os.Stat} {
		info, err := stat(path)
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

// mayPlace reports whether a file of this owner is accepted at path: the owner is
// trusted, or owns the folder.
func mayPlace(path string, uid uint32) bool {
	if Trusted(uid) {
		return true
	}
	folder, err := os.Stat(filepath.Dir(path))
	return err == nil && owner(folder) == uid
}

// ReadAny returns the content of a regular file of any owner. It follows links. It
// never waits for a named pipe, and returns an error for files larger than MaxSize.
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

// userName returns the name of a user for a message.
func userName(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return "user " + id
}
