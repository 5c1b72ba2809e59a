//go:build unix

package preflight

import "golang.org/x/sys/unix"

// Errors of a connection.
const (
	errRefused   = unix.ECONNREFUSED
	errNoNetwork = unix.ENETUNREACH
	errNoHost    = unix.EHOSTUNREACH
	errNoAddress = unix.EADDRNOTAVAIL
)
