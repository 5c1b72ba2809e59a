package preflight

import "golang.org/x/sys/windows"

// Errors of a connection.
const (
	errRefused   = windows.WSAECONNREFUSED
	errNoNetwork = windows.WSAENETUNREACH
	errNoHost    = windows.WSAEHOSTUNREACH
	errNoAddress = windows.WSAEADDRNOTAVAIL
)
