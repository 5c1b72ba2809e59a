package acmeserver

import "time"

// Certificate is an issued certificate. It belongs to one account. Further orders of the
// account that waited for it share the record.
type Certificate struct {
	ID, OrderID, AccountID string
	Owner                  string // of the account
	// Chains holds the chain and its alternates, each in PEM with the leaf first, sealed
	// if the Server has a Sealer.
	Chains              [][]byte
	Fingerprint         string // SHA-256 of the leaf's DER, in hexadecimal; orders of one Share may have the same
	KeyHash             string // SHA-256 of the leaf's SubjectPublicKeyInfo, in hexadecimal
	ARIID               string // RFC 9773, section 4.1; empty: the leaf has none
	Identifiers         []string
	NotBefore, NotAfter time.Time
	// State is the issuer's, as Issued.State.
	State      []byte
	Collected  bool   // whether a client has downloaded it
	ReplacedBy string // ID of the order that replaces it; empty: none
	RevokedAt  time.Time
	Reason     int // of the revocation (RFC 5280, section 5.3.1)
	CreatedAt  time.Time
}
