//go:build unix

package localfile

import (
	"errors"
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// Owner is the owner of a file: here a user id.
type Owner = uint32

// Words of messages.
const (
	administrator = "root"
	takeOwnership = "run chown on it"
)

// relyOnFolders means that an untrusted user's own folder may have the user's files:
// the administrator named it, or the user's home has it.
const relyOnFolders = true

// isTrusted reports whether this process can rely on files of this owner.
func isTrusted(uid uint32) bool { return uid == 0 || int64(uid) == int64(os.Geteuid()) }

func ownerOf(f *os.File) (Owner, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return owner(info), nil
}

func ownerAt(path string, follow bool) (Owner, error) {
	stat := os.Lstat
	if follow {
		stat = os.Stat
	}
	info, err := stat(path)
	if err != nil {
		return 0, err
	}
	return owner(info), nil
}

func ownerIn(dir *os.Root, name string) (Owner, error) {
	info, err := dir.Lstat(name)
	if err != nil {
		return 0, err
	}
	return owner(info), nil
}

func owner(info fs.FileInfo) Owner {
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

// NoLinkNoWait are flags for os.OpenFile: they refuse a symbolic link, where the
// system can, and do not wait for a named pipe.
const NoLinkNoWait = unix.O_NOFOLLOW | unix.O_NONBLOCK

const noWait = unix.O_NONBLOCK

// openNoLink opens a file for reading. It returns errLink for a symbolic link.
func openNoLink(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|NoLinkNoWait, 0)
	if errors.Is(err, notFollowed) {
		return nil, errLink
	}
	return f, err
}
