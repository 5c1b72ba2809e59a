package acmeserver_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"sync"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/rawacme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
)

// scriptedCA is an issuer that does as the test tells it.
type scriptedCA struct {
	key  crypto.Signer
	root *x509.Certificate

	mu      sync.Mutex // guards the fields below
	days    int        // of a certificate's life
	serial  int64
	calls   []acmeserver.IssueRequest
	times   []time.Time
	issue   func(ctx context.Context, r acmeserver.IssueRequest) (acmeserver.Issued, error)
	revoked []acmeserver.Certificate
}

func newScriptedCA(t *testing.T) *scriptedCA {
	t.Helper()
	key := rawacme.NewKey()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Root"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(10, 0, 0), SubjectKeyId: []byte("root"),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &scriptedCA{key: key, root: root, serial: 1, days: 90}
}

func (ca *scriptedCA) Issue(ctx context.Context, r acmeserver.IssueRequest) (acmeserver.Issued, error) {
	ca.mu.Lock()
	ca.calls, ca.times = append(ca.calls, r), append(ca.times, time.Now())
	issue := ca.issue
	ca.mu.Unlock()
	if issue != nil {
		return issue(ctx, r)
	}
	return ca.sign(r.CSR.Public, r.CSR.Names...), nil
}

// sign returns a new certificate.
func (ca *scriptedCA) sign(public crypto.PublicKey, names ...string) acmeserver.Issued {
	return ca.signFrom(time.Now(), public, names...)
}

// signFrom returns a new certificate that is valid from a time on.
func (ca *scriptedCA) signFrom(notBefore time.Time, public crypto.PublicKey, names ...string) acmeserver.Issued {
	ca.mu.Lock()
	ca.serial++
	serial, days := ca.serial, ca.days
	ca.mu.Unlock()
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(serial), DNSNames: names,
		NotBefore: notBefore, NotAfter: notBefore.AddDate(0, 0, days),
	}, ca.root, public, ca.key)
	if err != nil {
		panic(err)
	}
	leaf := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return acmeserver.Issued{Chain: append(leaf, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.root.Raw})...)}
}

func (ca *scriptedCA) Revoke(_ context.Context, r acmeserver.RevokeRequest) error {
	c, reason := r.Certificate, r.Reason
	ca.mu.Lock()
	defer ca.mu.Unlock()
	c.Reason = reason
	ca.revoked = append(ca.revoked, c)
	return nil
}

// does sets what Issue does.
func (ca *scriptedCA) does(issue func(ctx context.Context, r acmeserver.IssueRequest) (acmeserver.Issued, error)) {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	ca.issue = issue
}

// slow sets that Issue takes a while, unless the Server stops.
func (ca *scriptedCA) slow(d time.Duration) {
	ca.does(func(ctx context.Context, r acmeserver.IssueRequest) (acmeserver.Issued, error) {
		select {
		case <-time.After(d):
			return ca.sign(r.CSR.Public, r.CSR.Names...), nil
		case <-ctx.Done():
			return acmeserver.Issued{}, ctx.Err()
		}
	})
}

func (ca *scriptedCA) called() []acmeserver.IssueRequest {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	return ca.calls
}
