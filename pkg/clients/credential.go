package clients

import (
	"errors"
	"fmt"
	"time"
)

// CredentialKind names a scheme of authentication.
type CredentialKind string

// The kinds of credentials. The verifier of each is a SHA-256 hash. It identifies
// the client, but does not authenticate as the client.
const (
	TLSKey    CredentialKind = "tls-key" // of the key's SubjectPublicKeyInfo
	Bearer    CredentialKind = "bearer"  // of the token
	Enrolment CredentialKind = "enroll"  // of the one-time secret
)

// Credential authenticates a client.
type Credential struct {
	ID        string // assigned by the store
	ClientID  string
	Kind      CredentialKind
	Verifier  []byte    // unique among credentials of this kind
	CreatedAt time.Time // set by the store
	ExpiresAt time.Time // zero: never
}

// Validate checks the credential before it is stored.
func (c Credential) Validate() error {
	switch c.Kind {
	case TLSKey, Bearer, Enrolment:
	default:
		return fmt.Errorf("credential kind: %q is unknown; use %s, %s or %s", c.Kind, TLSKey, Bearer, Enrolment)
	}
	if len(c.Verifier) == 0 {
		return errors.New("credential verifier: empty; set the hash of the credential")
	}
	return nil
}

// Rollover replaces a client's TLS key.
type Rollover struct {
	CredentialID string
	Old, New     []byte   // verifiers
	Add, Retire  []string // recipients
}
