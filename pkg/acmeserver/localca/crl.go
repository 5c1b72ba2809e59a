package localca

import (
	"context"
	"crypto/x509"
	"fmt"
	"math/big"
	"sync"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
)

// A CRL is valid for crlLife, and signed again at least each crlRenew.
const (
	crlLife  = 7 * day
	crlRenew = day
)

// crl is the last CRL of an authority.
type crl struct {
	mu      sync.Mutex
	der     []byte
	signed  time.Time
	number  int64 // of the CRL
	changes int   // of the revocations when it was signed
}

// Revoke implements acmeserver.Revoker. The revocation is durable when it returns, and
// in the next CRL.
func (ca *CA) Revoke(_ context.Context, r acmeserver.RevokeRequest) error {
	leaf, reason := r.Leaf, r.Reason
	switch reason {
	case 0, 1, 3, 4, 5, 9: // RFC 5280, section 5.3.1: those of a certificate for a server
	default:
		return &acme.Problem{
			Type:   acme.BadRevocationReason,
			Detail: fmt.Sprintf("reason: %d is not possible; use 0, 1, 3, 4, 5 or 9", reason),
		}
	}
	issuer := ca.issuerOf(leaf)
	if issuer == nil {
		return &acme.Problem{Type: acme.Malformed, Detail: "certificate: another CA issued it; revoke it there"}
	}
	now := ca.cfg.Now().Truncate(time.Second)
	if err := ca.revoked.add(revocation{issuer.name, leaf.SerialNumber, now, leaf.NotAfter, reason}); err != nil {
		return fmt.Errorf("store the revocation: %w", err)
	}
	return nil
}

// CRL returns the CRL of the current issuing certificate in DER. Those of others are at
// the URLs in their certificates, which Handler serves.
func (ca *CA) CRL() []byte {
	der, err := ca.crlOf(ca.current().issuing)
	if err != nil {
		return nil // not reached: the key is in memory and suits the certificate
	}
	return der
}

// crlOf returns the CRL of an authority. It signs another one only after a revocation or
// when the last one is a day old.
func (ca *CA) crlOf(a *authority) ([]byte, error) {
	a.crl.mu.Lock()
	defer a.crl.mu.Unlock()
	now := ca.cfg.Now()
	changes := ca.revoked.changes(a.name)
	if age := now.Sub(a.crl.signed); a.crl.der != nil && changes == a.crl.changes && age >= 0 && age < crlRenew {
		return a.crl.der, nil
	}
	var entries []x509.RevocationListEntry
	for _, r := range ca.revoked.of(a.name, now) {
		entries = append(entries, x509.RevocationListEntry{SerialNumber: r.serial, RevocationTime: r.at, ReasonCode: r.reason})
	}
	number := max(a.crl.number+1, now.UnixMilli()) // increases across restarts, too
	der, err := x509.CreateRevocationList(nil, &x509.RevocationList{
		Number:     big.NewInt(number),
		ThisUpdate: now.Truncate(time.Second), NextUpdate: now.Truncate(time.Second).Add(crlLife),
		RevokedCertificateEntries: entries,
	}, a.cert, a.key)
	if err != nil {
		return nil, fmt.Errorf("sign the CRL of %s: %w", a.name, err)
	}
	a.crl.der, a.crl.signed, a.crl.number, a.crl.changes = der, now, number, changes
	return der, nil
}
