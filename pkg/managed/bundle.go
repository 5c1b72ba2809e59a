package managed

import "time"

// Bundle is the current sealed certificate of a managed certificate.
type Bundle struct {
	ManagedID           string
	ETag                string // changes with every bundle
	Ciphertext          []byte // sealed by the caller
	Serial              string // lower-case hexadecimal
	NotBefore, NotAfter time.Time
	CertificateURL      string    // the certificate's URL at the CA; empty: unknown
	CreatedAt           time.Time // set by the store

	// SealedTo are the client's recipients that Ciphertext is sealed to. The store
	// compares them with the present ones and does not store them. If nil, it
	// compares nothing.
	SealedTo []string
}
