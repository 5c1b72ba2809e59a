package acmeserver

import (
	"context"
	"net/netip"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
)

// Status is the state of an account, order, authorization or challenge (RFC 8555,
// section 7.1.6).
type Status string

// The states. Not every object can have every one.
const (
	StatusPending     Status = "pending"
	StatusReady       Status = "ready"
	StatusProcessing  Status = "processing"
	StatusValid       Status = "valid"
	StatusInvalid     Status = "invalid"
	StatusDeactivated Status = "deactivated"
	StatusExpired     Status = "expired" // authorizations only; computed from Expires, never stored
	StatusRevoked     Status = "revoked"
)

// Account is the account of an ACME client (RFC 8555, section 7.1.2).
type Account struct {
	ID         string // assigned by the Server
	Thumbprint string // of Key (RFC 7638), in base64url; unique
	Key        []byte // public key as a JWK
	Status     Status // valid, deactivated or revoked
	Contacts   []string
	Terms      string // URL of the terms of service that the client agreed to; empty: none
	// Owner is the party that the account belongs to, as Accounts.Admit returned it. The
	// Server gives each owner a share of its limits and never shows it to a client.
	Owner     string
	Binding   []byte // the verified external account binding as a JWS; nil: none
	Kid       string // key identifier of that binding; empty: none
	CreatedAt time.Time
	Version   int64 // changes with each update; the storage sets it
}

// NewAccount describes a request to create an account.
type NewAccount struct {
	Thumbprint string     // of the account's key (RFC 7638), in base64url
	Contacts   []string   // URLs with the scheme mailto
	Kid        string     // of the verified external account binding; empty: none
	Entrance   string     // of the directory that the client uses; empty: the common one
	Addr       netip.Addr // the caller's
	// Former is the owner of the account that has the key already, and whose use Allow
	// refused with the type accountDoesNotExist. It is empty for a new account.
	Former string
}

// Accounts decides who may have an account. The common directory is at URL/directory. A
// program can offer further ones, at URL/at/ENTRANCE/directory, for example with a secret
// ENTRANCE for clients that know no external account binding. Its methods may be called
// concurrently. An error that is an *acme.Problem is the client's answer. Any other error
// is logged, and the client's answer is serverInternal.
type Accounts interface {
	// RequiresBinding reports whether newAccount of a directory needs an external account
	// binding. An empty entrance is the common directory. The error is ErrNotFound if there
	// is no such entrance.
	RequiresBinding(ctx context.Context, entrance string) (bool, error)
	// BindingKey returns the HMAC key of an external account binding (RFC 8555, section
	// 7.3.4), or ErrNotFound.
	BindingKey(ctx context.Context, kid string) ([]byte, error)
	// Admit decides whether an account may be created, and returns its owner. If the
	// request has a Former, the account gets this owner instead: the client has another
	// binding, and its orders and certificates remain its own.
	Admit(ctx context.Context, a NewAccount) (owner string, err error)
	// Allow decides whether an account may still be used. The Server asks at each request
	// of the account, after it verified the signature. With a problem of the type
	// accountDoesNotExist, the client can register again with the same key.
	Allow(ctx context.Context, a Account, addr netip.Addr) error
}

// Unbound is an Accounts that wants to know of refused external account bindings.
type Unbound interface {
	// Unbound is called if a request for an account is refused because of its binding. Kid
	// is what the client sent, and empty if it sent none. Anyone may call newAccount with
	// any Kid.
	Unbound(ctx context.Context, a NewAccount, p *acme.Problem)
}

// KeyChanger is an Accounts that must know when an account gets another key, for example
// because it admits accounts by their keys.
type KeyChanger interface {
	// ChangeKey is called before the account gets the key with a thumbprint. After an error,
	// the account keeps its key. The Server may fail after the call, and a client may repeat
	// the request. So it must succeed again for the same account and thumbprint.
	ChangeKey(ctx context.Context, a Account, thumbprint string, addr netip.Addr) error
}

// AnyAccount admits everybody without an external account binding. All accounts have
// the same owner, so they share the limits for one.
type AnyAccount struct{}

// RequiresBinding implements Accounts.
func (AnyAccount) RequiresBinding(_ context.Context, entrance string) (bool, error) {
	if entrance != "" {
		return false, ErrNotFound
	}
	return false, nil
}

// BindingKey implements Accounts.
func (AnyAccount) BindingKey(context.Context, string) ([]byte, error) { return nil, ErrNotFound }

// Admit implements Accounts.
func (AnyAccount) Admit(context.Context, NewAccount) (string, error) { return "", nil }

// Allow implements Accounts.
func (AnyAccount) Allow(context.Context, Account, netip.Addr) error { return nil }
