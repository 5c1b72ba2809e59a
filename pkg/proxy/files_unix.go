//go:build unix

package proxy

import "golang.org/x/sys/unix"

// maxFiles returns how many files this process may open, if there is a limit.
func maxFiles() (uint64, bool) {
	var files unix.Rlimit
	err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files)
	return uint64(files.Cur), err == nil //nolint:unconvert // FreeBSD has another type
}
