package acme

import "time"

// Account describes an account at a CA. Each directory has one.
type Account struct {
	DirectoryURL string    // identifies the CA
	URL          string    // account URL; empty until the CA has registered the key
	Email        string    // contact; empty if none was given
	SealedKey    []byte    // private key, sealed by the caller
	CreatedAt    time.Time // set by the store
}
