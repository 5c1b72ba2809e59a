package managed

import "time"

// WantedRevocation is a revocation that an administrator wants. It is stored before the
// CA is asked, so that a crash does not lose it.
type WantedRevocation struct {
	ManagedID string
	Serial    string // of the certificate, lower-case hexadecimal
	ClientID  string // owner; empty: the proxy itself
	CA        string // directory URL of the issuer; empty: the default CA
	Leaf      []byte // DER
	Reason    string // one of cert.Reasons
	Forget    bool   // the row is deleted instead of its certificate replaced

	WantedAt time.Time // set by the store
	DueAt    time.Time // next attempt; zero: now
}
