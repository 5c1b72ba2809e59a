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
//
// It also holds the differences between systems: locks, private files, atomic
// replacement and the owner of a file. On Windows, a trusted user is SYSTEM, a member
// of Administrators whose files belong to that group, or the user of this process.
package localfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// MaxSize bounds the files that Read and ReadAny read, in bytes.
const MaxSize = 4 << 20

// ForeignError reports a file that an untrusted user may have placed.
type ForeignError struct {
	Path  string
	Owner Owner
}

func (e *ForeignError) Error() string {
	name := userName(e.Owner)
	return fmt.Sprintf("%s belongs to %s, not to %s or to this user, so %s may have put it there; run this as %s, or remove the file if it is unknown, or %s if it is yours",
		e.Path, name, administrator, name, name, takeOwnership)
}

// IsTrusted reports whether a trusted user owns an open file or folder.
func IsTrusted(f *os.File) bool {
	owner, err := ownerOf(f)
	return err == nil && isTrusted(owner)
}

// IsTrustedAt reports whether a trusted user owns the file, folder or link at path.
func IsTrustedAt(path string) bool {
	owner, err := ownerAt(path, false)
	return err == nil && isTrusted(owner)
}

// IsTrustedIn reports the same about a name in an opened folder.
func IsTrustedIn(dir *os.Root, name string) bool {
	owner, err := ownerIn(dir, name)
	return err == nil && isTrusted(owner)
}

// Read returns the content of a file that must be trustworthy: a key, an identity, a
// list of commands. It returns a *ForeignError if the file, or a link at path, belongs
// to an untrusted user in another user's folder, on Windows in any folder. It returns fs.ErrNotExist if the file
// does not exist.
func Read(path string) ([]byte, error) {
	f, err := openNoLink(path)
	if errors.Is(err, errLink) {
		if err = Check(path); err != nil {
			return nil, err
		}
		f, err = os.OpenFile(path, os.O_RDONLY|noWait, 0)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	owner, err := ownerOf(f)
	if err != nil {
		return nil, err
	}
	if !mayPlace(path, owner) {
		return nil, &ForeignError{Path: path, Owner: owner}
	}
	return readRegular(f, info)
}

// errLink is the error of openNoLink for a symbolic link.
var errLink = errors.New("it is a symbolic link")

// Check returns a *ForeignError if Read would. It returns nil if the file does not
// exist.
func Check(path string) error { return check(path, mayPlace) }

// CheckOwn works like Check, but also returns a *ForeignError for a file of an
// untrusted user in that user's own folder. Call it before adopting a file.
func CheckOwn(path string) error {
	return check(path, func(_ string, owner Owner) bool { return isTrusted(owner) })
}

// check checks the owner of path and, if path is a link, of its target.
func check(path string, allowed func(path string, owner Owner) bool) error {
	for _, follow := range []bool{false, true} {
		owner, err := ownerAt(path, follow)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case !allowed(path, owner):
			return &ForeignError{Path: path, Owner: owner}
		}
	}
	return nil
}

// mayPlace reports whether a file of this owner is accepted at path: the owner is
// trusted, or owns the folder.
func mayPlace(path string, owner Owner) bool {
	if isTrusted(owner) {
		return true
	}
	if !relyOnFolders {
		return false
	}
	folder, err := ownerAt(filepath.Dir(path), true)
	return err == nil && folder == owner
}

// ReadAny returns the content of a regular file of any owner. It follows links. It
// never waits for a named pipe, and returns an error for files larger than MaxSize.
func ReadAny(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|noWait, 0)
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
