package localfile

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

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
	dir, err := root.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	if now, err := dir.Stat("."); err != nil || !os.SameFile(info, now) {
		return nil, errors.Join(fmt.Errorf("%s was replaced while it was opened", path), err, dir.Close())
	}
	return dir, nil
}
