//go:build unix

package certfile

import (
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// systemReplaces is the way in which this system replaces the files of a set.
const systemReplaces = byLink

// checkPermissions returns an error for each setting that this system does not have.
func checkPermissions(Layout) []error { return nil }

// isWritable returns an error unless this user may create files in a folder.
func isWritable(path string) error {
	return unix.Faccessat(unix.AT_FDCWD, path, unix.W_OK|unix.X_OK, unix.AT_EACCESS)
}

// hasSpace returns an error unless the file system has room for a set.
func hasSpace(path string) error {
	var free unix.Statfs_t
	if err := unix.Statfs(path, &free); err != nil {
		return nil //nolint:nilerr // the free space is unknown, so try to write
	}
	if free.Bsize > 0 && free.Blocks > 0 && free.Bfree < neededBytes/uint64(free.Bsize)+1 {
		return fmt.Errorf("%w: %d KiB are needed; free some", unix.ENOSPC, neededBytes>>10)
	}
	if free.Files > 0 && free.Ffree < neededFiles { // some file systems do not count
		return fmt.Errorf("%w: no inodes are free; remove some files", unix.ENOSPC)
	}
	return nil
}

// chown changes the owner and the group of a file. -1 leaves one as it is.
func chown(f *os.File, uid, gid int) error { return f.Chown(uid, gid) }

// newFolder creates a folder that only this user can use.
func newFolder(in *os.Root, name string) error { return in.Mkdir(name, 0o700) }

// hasPermissions reports whether the file at path has this mode and owner.
func (r resolved) hasPermissions(path string, mode fs.FileMode) bool {
	var stat unix.Stat_t
	if err := unix.Stat(path, &stat); err != nil || fs.FileMode(stat.Mode).Perm() != mode {
		return false
	}
	return (r.uid < 0 || int(stat.Uid) == r.uid) && (r.gid < 0 || int(stat.Gid) == r.gid)
}
