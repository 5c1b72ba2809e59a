package localfile

import (
	"errors"
	"io/fs"
	"path/filepath"
)

// Resolve returns path without symbolic links, as far as it exists. Two paths of one
// folder, existing or not, have the same result, unless a file system has several names
// for it. A missing or unreadable part is taken as it is.
//
// If OpenFolder refuses a link on the way, Resolve follows none. Otherwise an untrusted
// user could make a path stand for any folder of this host.
func Resolve(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	rest := ""
	for at := path; ; at = filepath.Dir(at) {
		found, err := follow(at)
		if err == nil {
			return filepath.Join(found, rest)
		}
		if errors.As(err, new(untrustedLink)) || at == filepath.Dir(at) {
			return path
		}
		rest = filepath.Join(filepath.Base(at), rest)
	}
}

// StatFolder describes the folder at path, as os.Stat does. It returns an error if
// OpenFolder does.
func StatFolder(path string) (fs.FileInfo, error) {
	root, err := OpenFolder(path)
	if err != nil {
		return nil, err
	}
	info, err := root.Stat(".")
	return info, errors.Join(err, root.Close())
}

// untrustedLink reports a link of an untrusted user to a folder of another user.
type untrustedLink struct{ error }
