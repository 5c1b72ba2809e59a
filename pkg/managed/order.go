package managed

import "time"

// Order is the journal entry of an order that is not finished: all that is
// needed to finish it after a crash.
type Order struct {
	ManagedID string
	CA        string    // directory URL
	URL       string    // of the order
	CSR       []byte    // DER
	SealedKey []byte    // the certificate's key, sealed by the caller; empty if the client keeps it
	CreatedAt time.Time // set by the store
}
