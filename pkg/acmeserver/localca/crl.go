package localca

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
	"github.com/acmeproxy/acmeproxy/pkg/localfile"
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
	changes int // of the revocations when it was signed
}

// numberFile holds the number of the last CRL.
const numberFile = "crl-number"

// numbers counts the CRLs of all authorities together. The numbers increase, also after a
// restart with an earlier clock.
type numbers struct {
	path string

	mu   sync.Mutex
	last int64 // guarded by mu
}

// openNumbers reads the last number. A file that is not there, as in a folder of an
// earlier version, means that there was none.
func openNumbers(path string) (*numbers, error) {
	n := &numbers{path: path}
	text, err := localfile.Read(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return n, nil
	case err != nil:
		return nil, err
	}
	if n.last, err = strconv.ParseInt(strings.TrimSuffix(string(text), "\n"), 10, 64); err != nil || n.last < 0 {
		return nil, fmt.Errorf("%s is damaged: it has no number; restore it from a backup, or remove it", path)
	}
	return n, nil
}

// next returns the next number. It is used even if it cannot be stored: programs need a
// CRL more than its number after the next restart.
func (n *numbers) next(now time.Time) int64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.last = max(n.last+1, now.UnixMilli())
	_ = replace(n.path, fmt.Appendf(nil, "%d\n", n.last))
	return n.last
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
	number := ca.numbers.next(now)
	der, err := x509.CreateRevocationList(nil, &x509.RevocationList{
		Number:     big.NewInt(number),
		ThisUpdate: now.Truncate(time.Second), NextUpdate: now.Truncate(time.Second).Add(crlLife),
		RevokedCertificateEntries: entries,
	}, a.cert, a.key)
	if err != nil {
		return nil, fmt.Errorf("sign the CRL of %s: %w", a.name, err)
	}
	a.crl.der, a.crl.signed, a.crl.changes = der, now, changes
	return der, nil
}
