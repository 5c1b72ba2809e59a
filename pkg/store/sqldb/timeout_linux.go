package sqldb

import (
	"time"

	"golang.org/x/sys/unix"
)

// setUserTimeout limits how long sent data may stay without an acknowledgment.
func setUserTimeout(fd uintptr, d time.Duration) error {
	return unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.Milliseconds()))
}
