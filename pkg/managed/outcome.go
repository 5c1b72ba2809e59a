package managed

import "time"

// Outcome is the result of an attempt to obtain a managed certificate, once it is
// stored.
type Outcome struct {
	Certificate
	ClientName string // of the owner; empty: the proxy itself

	Err      error     // nil if a bundle was stored
	Serial   string    // of the new certificate, lower-case hexadecimal
	NotAfter time.Time // of the new certificate
}
