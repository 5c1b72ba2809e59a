package managed

import "time"

// Bundle is the current sealed certificate of a managed certificate.
type Bundle struct {
	ManagedID           string
	ETag                string // changes with every bundle
	Ciphertext          []byte // sealed by the caller
	Serial              string // lower-case hexadecimal
	NotBefore, NotAfter time.Time
	CA                  string    // directory URL of the CA that issued it; empty: unknown
	CertificateURL      string    // the certificate's URL at the CA; empty: unknown
	ARIID               string    // of the certificate (RFC 9773, section 4.1); empty: unknown
	CreatedAt           time.Time // set by the store

	// SealedTo are the client's recipients that Ciphertext is sealed to. The store
	// compares them with the present ones and does not store them. If nil, it
	// compares nothing.
	SealedTo []string
}
