package localfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// asFolder at the end of a path makes an open fail for anything but a folder. Another
// user may put a named pipe there after it was checked, where an open would wait.
const asFolder = string(filepath.Separator) + "."

// OpenRoot works like os.OpenRoot, but never waits for a named pipe.
func OpenRoot(path string) (*os.Root, error) {
	root, err := os.OpenRoot(path + asFolder)
	if at := (*fs.PathError)(nil); errors.As(err, &at) {
		err = &fs.PathError{Op: at.Op, Path: path, Err: at.Err} // as the caller spelt it
	}
	return root, err
}

// OpenDir opens a folder directly below root. It returns an error for a symbolic link.
func OpenDir(root *os.Root, name string) (*os.Root, error) {
	info, err := root.Lstat(name)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(root.Name(), name)
	if info.Mode()&os.ModeSymlink != 0 {
		return nil, fmt.Errorf("%s is a symbolic link; use a folder instead", path)
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("%s is not a folder; remove it", path)
	}
	dir, err := root.OpenRoot(name + asFolder)
	if err != nil {
		return nil, err
	}
	if now, err := dir.Stat("."); err != nil || !os.SameFile(info, now) {
		return nil, errors.Join(fmt.Errorf("%s was replaced while it was opened", path), err, dir.Close())
	}
	return dir, nil
}
