package managed

import "time"

// Order is the journal entry of an unfinished order. It holds all that is needed to
// finish the order after a crash.
type Order struct {
	ManagedID string
	CA        string    // directory URL
	URL       string    // of the order
	CSR       []byte    // DER
	SealedKey []byte    // the certificate's key, sealed by the caller; empty if the client has it
	CreatedAt time.Time // set by the store
}
