package localfile

import (
	"errors"
	"io"
	"io/fs"
	"os"
)

// MakeDir creates a folder in parent that all users can read, for any umask. If the
// name exists already, MakeDir changes nothing.
func MakeDir(parent *os.Root, name string) error {
	err := parent.Mkdir(name, 0o755)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	made, err := OpenDir(parent, name)
	if err != nil {
		return err
	}
	defer made.Close()
	d, err := made.Open(".")
	if err != nil {
		return err
	}
	defer d.Close()
	if _, err := d.Readdirnames(1); !errors.Is(err, io.EOF) {
		return err // another process uses it already
	}
	return SetMode(d, 0o755)
}

// Replace writes a private file atomically: path has the old content or the new.
func Replace(path string, data []byte) error {
	f, err := NewPending(path)
	if err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return errors.Join(err, f.Cleanup())
	}
	if err := f.CloseAtomicallyReplace(); err != nil {
		return errors.Join(err, f.Cleanup())
	}
	return nil
}
