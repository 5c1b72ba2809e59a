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

// Reason is the reason of a refusal, for the audit trail only.
type Reason string

// The reasons of a refusal. Unknown and expired credentials share one, because the
// store does not return expired credentials.
const (
	ReasonNone      Reason = "no credential presented"
	ReasonMalformed Reason = "malformed Authorization header or token"
	ReasonUnknown   Reason = "credential unknown or expired"
	ReasonDisabled  Reason = "client is disabled"
	ReasonExpired   Reason = "credential is expired"
	ReasonNetwork   Reason = "not from a network of the credential"
)

// Error reports that a caller was refused. Its text is for the caller and is the
// same for every reason, so that it cannot be used to probe for clients.
type Error struct {
	Reason Reason
	// Addr is the caller's address, as in Identity.
	Addr netip.Addr
	// ClientID and ClientName are set if the client is disabled.
	ClientID, ClientName string
}

func (*Error) Error() string {
	return "authentication failed: present the key of an enrolled client or a valid bearer token"
}

// Store finds clients. It may be used concurrently.
type Store interface {
	ClientByCredential(ctx context.Context, kind clients.CredentialKind, verifier []byte) (clients.Client, clients.Credential, error)
}

// Config holds the dependencies of an Authenticator.
type Config struct {
	Store Store // must be set
}

// Authenticator authenticates requests. It may be used concurrently.
type Authenticator struct {
	store Store
}

// New creates an Authenticator.
func New(c Config) *Authenticator {
	return &Authenticator{store: c.Store}
}

// Authenticate returns the identity of the client that sent r. It tries the key of
// the TLS handshake first. The handshake proved possession of the key, so its
// certificate is not checked (the listener uses tls.RequestClientCert). A bearer token
// counts only if no client has that key. The error is an *Error if the caller is
// refused. Any other error means that the caller could not be checked.
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

// lookup returns the client that has the credential, or managed.ErrNotFound.
func (a *Authenticator) lookup(ctx context.Context, addr netip.Addr, kind clients.CredentialKind, verifier []byte) (clients.Identity, error) {
	client, credential, err := a.store.ClientByCredential(ctx, kind, verifier)
	if err != nil {
		return clients.Identity{}, fmt.Errorf("look up the caller's credential: %w", err)
	}
	// The index finds the row. Only this comparison, in constant time, admits the
	// caller.
	if credential.Kind != kind || subtle.ConstantTimeCompare(credential.Verifier, verifier) != 1 {
		return clients.Identity{}, managed.ErrNotFound
	}
	if client.Disabled {
		return clients.Identity{}, &Error{Reason: ReasonDisabled, Addr: addr, ClientID: client.ID, ClientName: client.Name}
	}
	return clients.Identity{Client: client, Via: kind, CredentialID: credential.ID, Since: credential.CreatedAt, Addr: addr}, nil
}

// bearer returns the token of the Authorization header, or "" without a header.
func bearer(h http.Header) (string, error) {
	values := h.Values("Authorization")
	switch len(values) {
	case 0:
		return "", nil
	case 1:
	default: // a proxy in between may have checked any of them
		return "", errors.New("more than one Authorization header")
	}
	scheme, token, ok := strings.Cut(values[0], " ")
	token = strings.Trim(token, " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") || token == "" {
		return "", errors.New("not a bearer token")
	}
	return token, nil
}

// RemoteAddr returns the remote address of r's connection. It ignores headers such as
// X-Forwarded-For, because any client can set them.
func RemoteAddr(r *http.Request) netip.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap().WithZone("")
}
