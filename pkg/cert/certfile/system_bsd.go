//go:build unix && !linux

package certfile

import (
	"os"

	"golang.org/x/sys/unix"
)

// isMountPoint reports whether a name in an open folder is a mount point: it is on
// another file system.
func isMountPoint(d *os.File, name string) bool {
	var folder, at unix.Stat_t
	if unix.Fstat(int(d.Fd()), &folder) != nil || unix.Fstatat(int(d.Fd()), name, &at, unix.AT_SYMLINK_NOFOLLOW) != nil {
		return false
	}
	return at.Dev != folder.Dev
}
