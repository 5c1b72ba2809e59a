package clients

import (
	"net/netip"
	"time"
)

// Identity is an authenticated caller.
type Identity struct {
	Client Client
	// Via is the kind of credential that authenticated the caller.
	Via CredentialKind
	// CredentialID and Since are the credential's id and creation time. A key that
	// replaced another one in a rollover is as old as the first.
	CredentialID string
	Since        time.Time
	// Addr is the remote address of the connection, IPv4 addresses in their
	// 4-byte form. It is the zero Addr for a unix socket.
	Addr netip.Addr
}
