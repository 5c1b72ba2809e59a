package localfile

import (
	"errors"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

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
			steps = append(steps, step{at, found})
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
