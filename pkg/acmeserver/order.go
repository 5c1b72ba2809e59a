package acmeserver

import (
	"net/netip"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
)

// Order is an order with its authorizations (RFC 8555, section 7.1.3). Each
// authorization belongs to one order, so that one write changes both.
type Order struct {
	ID, AccountID string
	Owner         string // of the account
	Status        Status // pending, ready, processing, valid or invalid
	Identifiers   []acme.Identifier
	// Authorizations has one entry for each distinct identifier, in their order.
	Authorizations      []Authorization
	Profile             string    // empty: none was requested
	NotBefore, NotAfter time.Time // requested dates of the certificate; zero: none
	Replaces            string    // ARI id of the certificate that this one replaces; empty: none
	Error               *acme.Problem
	CreatedAt, Expires  time.Time

	// CSR is in DER and set while the order is processing. An order that ended keeps no
	// more than its hash, with which a repeated finalize is recognized.
	CSR     []byte
	CSRHash string     // SHA-256 of the CSR, in hexadecimal; empty before finalize
	Addr    netip.Addr // of the client that finalized the order; invalid if it is unknown
	// CertificateID is set when the order is valid.
	CertificateID string
	// Joined reports that the order is valid with a certificate that another order of the
	// same Share obtained. The issuer had no part in it, so its limits do not bound such
	// orders.
	Joined bool

	// Share names orders that are issued one after the other, as the Policy chose.
	// Empty: the order waits for no other.
	Share string
	// KeyHash is the SHA-256 of the CSR's SubjectPublicKeyInfo, in hexadecimal.
	KeyHash string
	// Issuing reports that the issuer works on the order, also across a restart. At most
	// one order with the same Share has it; the storage guarantees that.
	Issuing bool
	// State belongs to the Issuer. It survives a crash.
	State []byte

	DueAt      time.Time // of the next work on the order; zero: none
	WaitUntil  time.Time // when the issuer wants to be called again, as its Later said; zero: it did not say
	Failures   int       // of the issuer since finalize, or of a validation in progress
	LeaseOwner string    // instance that works on the order; empty: none
	LeaseUntil time.Time

	Version int64 // grows by 1 with each update; the storage sets it
}

// Authorization is the authorization of one identifier (RFC 8555, section 7.1.4). Its
// URL has the order's ID and its index. It expires with the order.
type Authorization struct {
	Identifier acme.Identifier `json:"identifier"` // without "*." of a wildcard
	Wildcard   bool            `json:"wildcard,omitempty"`
	Status     Status          `json:"status"`
	Challenges []Challenge     `json:"challenges"`
}

// Name returns the identifier's value, with "*." of a wildcard.
func (a Authorization) Name() string {
	if a.Wildcard {
		return "*." + a.Identifier.Value
	}
	return a.Identifier.Value
}

// Challenge is a challenge of an authorization (RFC 8555, section 8).
type Challenge struct {
	Type      string        `json:"type"`
	Token     string        `json:"token"` // base64url of 32 random bytes
	Status    Status        `json:"status"`
	Validated time.Time     `json:"validated,omitzero"`
	Error     *acme.Problem `json:"error,omitempty"`
	Addr      netip.Addr    `json:"addr,omitzero"` // of the client that asked for the validation
	Attempts  int           `json:"attempts,omitempty"`
	DueAt     time.Time     `json:"due,omitzero"` // of the next attempt while the challenge is processing
}
