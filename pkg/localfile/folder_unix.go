//go:build unix

package localfile

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// OpenFolder opens the folder at path. It follows links on the way, because they
// are the administrator's choice, with one exception: a link of an untrusted user
// must lead to a folder of that user.
func OpenFolder(path string) (*os.Root, error) {
	found, steps, err := walk(path)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	if err := checkLinks(steps, found.Uid); err != nil {
		return nil, err
	}
	root, err := OpenRoot(path)
	if err != nil {
		return nil, err
	}
	info, err := root.Stat(".")
	if err == nil {
		now, ok := info.Sys().(*syscall.Stat_t)
		if ok && now.Dev == found.Dev && now.Ino == found.Ino {
			return root, nil
		}
		err = fmt.Errorf("%s was replaced while it was opened", path)
	}
	return nil, errors.Join(err, root.Close())
}

// checkLinks returns an error for a link of an untrusted user that leads to a folder of
// the owner.
func checkLinks(steps []step, owner uint32) error {
	for _, s := range steps {
		if s.isLink() && !isTrusted(s.stat.Uid) && s.stat.Uid != owner {
			return untrustedLink{fmt.Errorf("%s is a symbolic link of %s that leads to a folder of %s; remove the link, or use the path of the folder",
				s.path, userName(s.stat.Uid), userName(owner))}
		}
	}
	return nil
}

// follow returns the path of an existing object without links. It returns an
// untrustedLink if OpenFolder does.
func follow(path string) (string, error) {
	found, steps, err := walk(path)
	if err != nil {
		return "", err
	}
	if err := checkLinks(steps, found.Uid); err != nil {
		return "", err
	}
	for _, s := range slices.Backward(steps) {
		if !s.isLink() {
			return s.path, nil
		}
	}
	return path, nil // not reached: the first step is the root folder
}

// Risk describes the first folder or link in path that an untrusted user can change,
// with the remedy. It returns "" if there is no such object. Missing objects are no
// risk.
func Risk(path string) string {
	_, steps, _ := walk(path)
	for _, s := range steps {
		who := userName(s.stat.Uid)
		switch {
		case !isTrusted(s.stat.Uid) && s.isLink():
			return fmt.Sprintf("the link %s belongs to %s, who can change where it leads; use the path of the folder, or run this as %s", s.path, who, who)
		case !isTrusted(s.stat.Uid):
			return fmt.Sprintf("%s belongs to %s, who can replace everything in it; use a folder that only root or this user can change, or run this as %s",
				s.path, who, who)
		case s.isLink() || s.stat.Mode&unix.S_ISVTX != 0:
		case s.stat.Mode&0o002 != 0:
			return fmt.Sprintf("%s belongs to %s, but every user can replace its content; run chmod o-w %s", s.path, who, s.path)
		case s.stat.Mode&0o020 != 0 && s.stat.Gid != 0:
			return fmt.Sprintf("%s belongs to %s, but its group %d can replace its content; run chmod g-w %s", s.path, who, s.stat.Gid, s.path)
		}
	}
	return ""
}

// step is one object of a path: a folder or a link.
type step struct {
	path string
	stat unix.Stat_t
}

func (s step) isLink() bool { return s.stat.Mode&unix.S_IFMT == unix.S_IFLNK }

// maxLinks is the same limit as the kernel's (path_resolution(7)).
const maxLinks = 40
