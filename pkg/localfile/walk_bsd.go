//go:build unix && !linux

package localfile

import (
	"errors"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// openFolderFlags open a folder and no link. The right to list it is not needed.
const openFolderFlags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC | search

// walk resolves a path as the kernel does, and returns the objects of the path. It
// opens each folder before it checks it, so that none can be replaced in between.
// Unlike Linux, these systems cannot open a link, so a link is compared before and
// after it is read. After an error, steps contains the objects that exist.
func walk(path string) (found unix.Stat_t, steps []step, err error) {
	path, err = filepath.Abs(path)
	if err != nil {
		return found, nil, err
	}
	rest, at, links := strings.Split(path, "/"), "/", 0
	dir, err := openRoot(&found)
	if err != nil {
		return found, nil, err
	}
	defer func() { unix.Close(dir) }()
	steps = append(steps, step{at, found})
	for len(rest) > 0 {
		name := rest[0]
		rest = rest[1:]
		if name == "" || name == "." {
			continue
		}
		s := step{path: filepath.Join(at, name)}
		if err := unix.Fstatat(dir, name, &s.stat, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return found, steps, err
		}
		if !s.isLink() {
			next, err := unix.Openat(dir, name, openFolderFlags, 0)
			if err != nil {
				return found, append(steps, s), err
			}
			if err := unix.Fstat(next, &s.stat); err != nil {
				return found, steps, errors.Join(err, unix.Close(next))
			}
			steps = append(steps, s)
			unix.Close(dir)
			dir, at, found = next, s.path, s.stat
			continue
		}
		steps = append(steps, s)
		target, err := readLink(dir, name, s.stat)
		if links++; err == nil && links > maxLinks {
			err = unix.ELOOP
		}
		if err != nil {
			return found, steps, err
		}
		if strings.HasPrefix(target, "/") {
			unix.Close(dir)
			if dir, err = openRoot(&found); err != nil {
				return found, steps, err
			}
			at = "/"
			steps = append(steps, step{at, found})
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return found, steps, nil
}

// openRoot opens the root folder and reads its properties.
func openRoot(stat *unix.Stat_t) (int, error) {
	fd, err := unix.Open("/", openFolderFlags, 0)
	if err != nil {
		return -1, err
	}
	if err := unix.Fstat(fd, stat); err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

// readLink returns the target of a link, and an error if another object has its name
// now.
func readLink(dir int, name string, link unix.Stat_t) (string, error) {
	const longest = 1024 // PATH_MAX of these systems
	buf := make([]byte, longest)
	n, err := unix.Readlinkat(dir, name, buf)
	if err != nil {
		return "", err
	}
	var now unix.Stat_t
	if err := unix.Fstatat(dir, name, &now, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return "", err
	}
	if now.Dev != link.Dev || now.Ino != link.Ino {
		return "", errors.New("it was replaced while it was read")
	}
	return string(buf[:n]), nil
}
