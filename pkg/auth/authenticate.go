package auth

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"

	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
)

// Reason says, for the audit trail only, why a caller was refused.
type Reason string

// The reasons for a refusal. The store forgets expired credentials as it does
// unknown ones, so these two are one reason.
const (
	ReasonNone      Reason = "no credential presented"
	ReasonMalformed Reason = "malformed Authorization header or token"
	ReasonUnknown   Reason = "credential unknown or expired"
	ReasonDisabled  Reason = "client is disabled"
)

// Error is a refusal. Its text is for the caller and is the same whatever the
// reason, so that it cannot be used to probe for clients.
type Error struct {
	Reason Reason
	// Addr is where the caller came from, as in Identity.
	Addr netip.Addr
	// ClientID and ClientName are set when the credential is a disabled client's.
	ClientID, ClientName string
}

func (*Error) Error() string {
	return "authentication failed: present the key of an enrolled client or a valid bearer token"
}

// Store finds clients. It may be used concurrently.
type Store interface {
	ClientByCredential(ctx context.Context, kind clients.CredentialKind, verifier []byte) (clients.Client, clients.Credential, error)
}

// Config is what New needs.
type Config struct {
	// Store must be set.
	Store Store
}

// Authenticator tells who sent a request. It may be used concurrently.
type Authenticator struct {
	store Store
}

// New makes an Authenticator.
func New(c Config) *Authenticator {
	return &Authenticator{store: c.Store}
}

// Authenticate tells who sent r. The key of the TLS handshake comes first: the
// handshake proved its possession, so the certificate around it is not checked
// (the listener asks with tls.RequestClientCert). A bearer token counts only
// if that key is not a client's. The error is an *Error if the caller is
// refused; any other means that the answer is not known.
func (a *Authenticator) Authenticate(r *http.Request) (clients.Identity, error) {
	addr := RemoteAddr(r)
	reason := ReasonNone
	if r.TLS != nil && r.TLS.HandshakeComplete && len(r.TLS.PeerCertificates) > 0 {
		pin := SPKIPin(r.TLS.PeerCertificates[0])
		id, err := a.lookup(r.Context(), addr, clients.TLSKey, pin[:])
		if !errors.Is(err, managed.ErrNotFound) {
			return id, err
		}
		reason = ReasonUnknown
	}
	token, err := bearer(r.Header)
	if err != nil {
		return clients.Identity{}, &Error{Reason: ReasonMalformed, Addr: addr}
	}
	if token == "" {
		return clients.Identity{}, &Error{Reason: reason, Addr: addr}
	}
	verifier, err := BearerVerifier(token)
	if err != nil {
		return clients.Identity{}, &Error{Reason: ReasonMalformed, Addr: addr}
	}
	id, err := a.lookup(r.Context(), addr, clients.Bearer, verifier)
	if errors.Is(err, managed.ErrNotFound) {
		return clients.Identity{}, &Error{Reason: ReasonUnknown, Addr: addr}
	}
	return id, err
}

// lookup finds the client that has the credential, or managed.ErrNotFound.
func (a *Authenticator) lookup(ctx context.Context, addr netip.Addr, kind clients.CredentialKind, verifier []byte) (clients.Identity, error) {
	client, credential, err := a.store.ClientByCredential(ctx, kind, verifier)
	if err != nil {
		return clients.Identity{}, fmt.Errorf("look up the caller's credential: %w", err)
	}
	// The index finds the row; this comparison, in constant time, is the one
	// that lets the caller in.
	if credential.Kind != kind || subtle.ConstantTimeCompare(credential.Verifier, verifier) != 1 {
		return clients.Identity{}, managed.ErrNotFound
	}
	if client.Disabled {
		return clients.Identity{}, &Error{Reason: ReasonDisabled, Addr: addr, ClientID: client.ID, ClientName: client.Name}
	}
	return clients.Identity{Client: client, Via: kind, CredentialID: credential.ID, Since: credential.CreatedAt, Addr: addr}, nil
}

// bearer reads the token of the one Authorization header; "" if there is none.
func bearer(h http.Header) (string, error) {
	values := h.Values("Authorization")
	switch len(values) {
	case 0:
		return "", nil
	case 1:
	default: // which of them a proxy in between has checked is anyone's guess
		return "", errors.New("more than one Authorization header")
	}
	scheme, token, ok := strings.Cut(values[0], " ")
	token = strings.Trim(token, " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") || token == "" {
		return "", errors.New("not a bearer token")
	}
	return token, nil
}

// RemoteAddr is the address of the other end of r's connection. Headers such
// as X-Forwarded-For are not looked at: anyone can write them.
func RemoteAddr(r *http.Request) netip.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap().WithZone("")
}
