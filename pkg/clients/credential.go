package clients

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// CredentialKind names a scheme of authentication.
type CredentialKind string

// The kinds of credentials. The verifier of each is a SHA-256 hash. It identifies
// the client, but does not authenticate as the client.
const (
	TLSKey        CredentialKind = "tls-key"        // of the key's SubjectPublicKeyInfo
	Bearer        CredentialKind = "bearer"         // of the token
	Enrolment     CredentialKind = "enroll"         // of the one-time secret
	ACMEBinding   CredentialKind = "acme-eab"       // of the key identifier of an external account binding
	ACMEDirectory CredentialKind = "acme-directory" // of the secret part of a directory URL
	ACMEKey       CredentialKind = "acme-key"       // the thumbprint of an account key (RFC 7638)
)

// ACMEKinds returns the kinds with which a client registers an ACME account.
func ACMEKinds() []CredentialKind { return []CredentialKind{ACMEBinding, ACMEDirectory, ACMEKey} }

// IsACME reports whether a client registers an ACME account with the credential.
func (k CredentialKind) IsACME() bool { return slices.Contains(ACMEKinds(), k) }

// Credential authenticates a client.
type Credential struct {
	ID        string // assigned by the store
	ClientID  string
	Kind      CredentialKind
	Verifier  []byte    // unique among credentials of this kind
	CreatedAt time.Time // set by the store
	ExpiresAt time.Time // zero: never
	Networks  []string  // of its users; none: any that the grants allow
	// Kid is the key identifier of an ACMEBinding. It is no secret, and is empty for older
	// credentials until they are used.
	Kid string
	// LastUsed and LastFrom are of the last use of one of ACMEKinds, as far as it was stored;
	// zero: none.
	LastUsed time.Time
	LastFrom string // address
}

// Validate checks the credential before it is stored.
func (c Credential) Validate() error {
	kinds := append([]CredentialKind{TLSKey, Bearer, Enrolment}, ACMEKinds()...)
	if !slices.Contains(kinds, c.Kind) {
		return fmt.Errorf("credential kind: %q is unknown; use one of %s", c.Kind, kinds)
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
