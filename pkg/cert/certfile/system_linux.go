package certfile

import (
	"os"

	"golang.org/x/sys/unix"
)

// isMountPoint reports whether a name in an open folder is a mount point. An old
// kernel does not know; then a rename fails later.
func isMountPoint(d *os.File, name string) bool {
	var stat unix.Statx_t
	err := unix.Statx(int(d.Fd()), name, unix.AT_SYMLINK_NOFOLLOW, 0, &stat)
	return err == nil && stat.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
}
