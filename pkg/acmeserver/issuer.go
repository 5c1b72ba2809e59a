package acmeserver

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/netip"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
)

// IssueRequest is an order to be issued.
type IssueRequest struct {
	Order   Order // its State is what Save or a Later stored last
	Account Account
	CSR     *cert.CSR // checked: its names are those of the order
	// Addr is the address from which the order was finalized. It is invalid if an earlier
	// version stored the order.
	Addr netip.Addr
	// Save stores State durably before it returns. After a crash, Issue is called again
	// with it. Once it has a State, the order is not superseded by a newer one. So call it
	// as soon as something exists elsewhere that should not be given up.
	Save func(ctx context.Context, state []byte) error
}

// Issued is the outcome of an issuance.
type Issued struct {
	// Chain is in PEM, the leaf first, without the root. The Server checks that the
	// leaf has the names and the key of the CSR.
	Chain []byte
	// Alternates are other chains of the same leaf (RFC 8555, section 7.4.2).
	Alternates [][]byte
	// State is kept with the certificate, for Revoke and RenewalInfo.
	State []byte
}

// Issuer issues certificates. Its methods may be used concurrently.
//
// An error that is an *acme.Problem ends the order, and the client reads it, with status
// 403 for one after which clients would send the request again. A *Later
// is no failure. After any other error, Issue is called again with increasing delays
// until the order expires. Issue may take minutes. If ctx ends, the Server stops, and
// the order is continued by a later call, perhaps in another process.
type Issuer interface {
	Issue(ctx context.Context, r IssueRequest) (Issued, error)
}

// Superseder is an Issuer that must know which orders it will not be called for again,
// although they had no outcome: a newer order of the same account and Share has another
// key, so no client waits for the certificate. Only orders without State are superseded.
type Superseder interface {
	Superseded(ctx context.Context, o Order)
}

// RevokeRequest is a revocation that the Server allows.
type RevokeRequest struct {
	// Certificate has only what Leaf tells if the certificate is unknown to the Server.
	// Otherwise it is the record of Account, or that of another account.
	Certificate Certificate
	Leaf        *x509.Certificate
	Reason      int        // RFC 5280, section 5.3.1
	Account     Account    // that signed the request; zero: the certificate's key did
	Addr        netip.Addr // the caller's
}

// Revoker is an Issuer that revokes certificates. Without it, revokeCert is refused. A
// certificate that is revoked already is no error.
type Revoker interface {
	Revoke(ctx context.Context, r RevokeRequest) error
}

// RenewalInfo is when to renew a certificate (RFC 9773, section 4.2).
type RenewalInfo struct {
	Start, End  time.Time
	Explanation string        // URL; may be empty
	RetryAfter  time.Duration // when to ask again; 6 hours if 0
}

// RenewalInformer is an Issuer that suggests when to renew. Without it, the Server
// suggests a window after two thirds of the lifetime.
type RenewalInformer interface {
	RenewalInfo(ctx context.Context, c Certificate) (RenewalInfo, error)
}

// Later is the error of an Issuer or Validator that has no result yet.
type Later struct {
	After  time.Duration // when to ask again; if 0, with increasing delays
	Reason string        // for the log
}

// Error returns the reason.
func (l *Later) Error() string { return fmt.Sprintf("not yet: %s", l.Reason) }
