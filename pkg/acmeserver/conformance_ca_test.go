package acmeserver_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/rawacme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
)

// testCA is an issuer with two chains. Tests replace what it does.
type testCA struct {
	name  string
	key   crypto.Signer
	inter [2]*x509.Certificate // of the same key, by different roots

	mu      sync.Mutex // guards the fields below
	issue   func(ctx context.Context, r acmeserver.IssueRequest) (acmeserver.Issued, error)
	renewal func(c acmeserver.Certificate) (acmeserver.RenewalInfo, error)
	calls   int
	revoked []revocation
}

type revocation struct {
	leaf   *x509.Certificate
	state  string
	reason int
}

func newTestCA(t testing.TB) *testCA {
	t.Helper()
	ca := &testCA{name: "CA " + rand.Text()[:6], key: rawacme.NewKey()}
	for i := range ca.inter {
		rootKey := rawacme.NewKey()
		root := authority("Root", i)
		inter := authority(ca.name, i)
		ca.inter[i] = parseCertificate(t, create(t, inter, root, ca.key.Public(), rootKey))
	}
	return ca
}

func authority(name string, serial int) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(int64(serial) + 1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(1000 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
}

func create(t testing.TB, leaf, parent *x509.Certificate, public crypto.PublicKey, signer crypto.Signer) []byte {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, leaf, parent, public, signer)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func parseCertificate(t testing.TB, der []byte) *x509.Certificate {
	t.Helper()
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// does replaces what Issue does; nil restores it.
func (ca *testCA) does(issue func(ctx context.Context, r acmeserver.IssueRequest) (acmeserver.Issued, error)) {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	ca.issue = issue
}

// renews replaces what RenewalInfo does.
func (ca *testCA) renews(info func(acmeserver.Certificate) (acmeserver.RenewalInfo, error)) {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	ca.renewal = info
}

func (ca *testCA) called() int {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	return ca.calls
}

// Issue implements acmeserver.Issuer.
func (ca *testCA) Issue(ctx context.Context, r acmeserver.IssueRequest) (acmeserver.Issued, error) {
	ca.mu.Lock()
	ca.calls++
	issue := ca.issue
	ca.mu.Unlock()
	if issue != nil {
		return issue(ctx, r)
	}
	return ca.sign(r)
}

// sign returns a certificate at once.
func (ca *testCA) sign(r acmeserver.IssueRequest) (acmeserver.Issued, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return acmeserver.Issued{}, err
	}
	leaf := &x509.Certificate{
		SerialNumber: serial,
		NotBefore:    time.Now().Add(-time.Hour), NotAfter: time.Now().Add(90 * 24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, name := range r.CSR.Names {
		if ip := net.ParseIP(name); ip != nil {
			leaf.IPAddresses = append(leaf.IPAddresses, ip)
		} else {
			leaf.DNSNames = append(leaf.DNSNames, name)
		}
	}
	if !r.Order.NotBefore.IsZero() {
		leaf.NotBefore = r.Order.NotBefore
	}
	if !r.Order.NotAfter.IsZero() {
		leaf.NotAfter = r.Order.NotAfter
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca.inter[0], r.CSR.Public, ca.key)
	if err != nil {
		return acmeserver.Issued{}, err
	}
	return acmeserver.Issued{
		Chain: chain(der, ca.inter[0].Raw), Alternates: [][]byte{chain(der, ca.inter[1].Raw)},
		State: []byte("state of " + r.Order.ID),
	}, nil
}

func chain(ders ...[]byte) (all []byte) {
	for _, der := range ders {
		all = append(all, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return all
}

// Revoke implements acmeserver.Revoker.
func (ca *testCA) Revoke(_ context.Context, r acmeserver.RevokeRequest) error {
	c, leaf, reason := r.Certificate, r.Leaf, r.Reason
	ca.mu.Lock()
	defer ca.mu.Unlock()
	ca.revoked = append(ca.revoked, revocation{leaf, string(c.State), reason})
	return nil
}

func (ca *testCA) revocations() []revocation {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	return append([]revocation(nil), ca.revoked...)
}

// RenewalInfo implements acmeserver.RenewalInformer.
func (ca *testCA) RenewalInfo(_ context.Context, c acmeserver.Certificate) (acmeserver.RenewalInfo, error) {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	if ca.renewal != nil {
		return ca.renewal(c)
	}
	return acmeserver.RenewalInfo{Start: c.NotAfter.Add(-30 * time.Hour), End: c.NotAfter.Add(-20 * time.Hour)}, nil
}
