package localfile

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
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

// OpenFolder opens the folder at path. It follows links on the way, because they
// are the administrator's choice, with one exception: a link of an untrusted user
// must lead to a folder of that user.
func OpenFolder(path string) (*os.Root, error) {
	found, steps, err := walk(path)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	for _, s := range steps {
		if s.isLink() && !Trusted(s.stat.Uid) && s.stat.Uid != found.Uid {
			return nil, fmt.Errorf("%s is a symbolic link of %s that leads to a folder of %s; remove the link, or use the path of the folder",
				s.path, userName(s.stat.Uid), userName(found.Uid))
		}
	}
	root, err := os.OpenRoot(path)
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

// Risk describes the first folder or link in path that an untrusted user can change,
// with the remedy. It returns "" if there is no such object. Missing objects are no
// risk.
func Risk(path string) string {
	_, steps, _ := walk(path)
	for _, s := range steps {
		who := userName(s.stat.Uid)
		switch {
		case !Trusted(s.stat.Uid) && s.isLink():
			return fmt.Sprintf("the link %s belongs to %s, who can change where it leads; use the path of the folder, or run this as %s", s.path, who, who)
		case !Trusted(s.stat.Uid):
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

// walk resolves a path as the kernel does, and returns the objects of the path. It
// opens each object before it checks it, so that none can be replaced in between. After
// an error, steps contains the objects that exist.
func walk(path string) (found unix.Stat_t, steps []step, err error) {
	path, err = filepath.Abs(path)
	if err != nil {
		return found, nil, err
	}
	const flags = unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC
	rest, at, links := strings.Split(path, "/"), "/", 0
	dir, err := unix.Open("/", flags, 0)
	if err != nil {
		return found, nil, err
	}
	defer func() { unix.Close(dir) }()
	if err := unix.Fstat(dir, &found); err != nil {
		return found, nil, err
	}
	steps = append(steps, step{at, found})
	for len(rest) > 0 {
		name := rest[0]
		rest = rest[1:]
		if name == "" || name == "." {
			continue
		}
		next, err := unix.Openat(dir, name, flags, 0)
		if err != nil {
			return found, steps, err
		}
		s := step{path: filepath.Join(at, name)}
		if err := unix.Fstat(next, &s.stat); err != nil {
			return found, steps, errors.Join(err, unix.Close(next))
		}
		steps = append(steps, s)
		if !s.isLink() {
			unix.Close(dir)
			dir, at, found = next, s.path, s.stat
			continue
		}
		target, err := readLink(next)
		unix.Close(next)
		if links++; err == nil && links > maxLinks {
			err = unix.ELOOP
		}
		if err != nil {
			return found, steps, err
		}
		if strings.HasPrefix(target, "/") {
			unix.Close(dir)
			if dir, err = unix.Open("/", flags, 0); err != nil {
				return found, steps, err
			}
			at = "/"
			if err := unix.Fstat(dir, &found); err != nil {
				return found, steps, err
			}
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return found, steps, nil
}

// readLink returns the target of an open link.
func readLink(fd int) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}
