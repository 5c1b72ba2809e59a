//go:build darwin || freebsd

package admin

import (
	"errors"
	"net"

	"golang.org/x/sys/unix"
)

// maxPath is the maximum length of a unix socket's path, without the final zero.
const maxPath = 103

// peerUID returns the user of the process that connected.
func peerUID(conn *net.UnixConn) (uid int, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Xucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		const local = 0 // SOL_LOCAL
		cred, credErr = unix.GetsockoptXucred(int(fd), local, unix.LOCAL_PEERCRED)
	})
	if err := errors.Join(err, credErr); err != nil {
		return 0, err
	}
	return int(cred.Uid), nil
}
