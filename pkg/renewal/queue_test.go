package renewal_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"log/slog"
	"math/big"
	"path/filepath"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/acmeproxy/acmeproxy/internal/watch"
	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/renewal"
	"github.com/acmeproxy/acmeproxy/pkg/seal"
	"github.com/acmeproxy/acmeproxy/pkg/store"
	"github.com/acmeproxy/acmeproxy/pkg/work"
)

// gate is an Issuer whose issuances wait, so that a test can change what is
// wanted while they are under way.
type gate chan *underWay

type underWay struct {
	keyType cert.KeyType
	finish  chan error      // the CA's answer
	ended   <-chan struct{} // closed when the outcome is recorded
}

func (g gate) Issue(ctx context.Context, req cert.Request, _ func(acme.Event)) (*cert.Bundle, error) {
	if err := req.OnOrder(ctx, cert.Order{CA: "https://ca.example/dir", URL: "https://ca.example/order"}); err != nil {
		return nil, err
	}
	csr, err := cert.ParseCSR(req.CSR)
	if err != nil {
		return nil, err
	}
	u := &underWay{keyType: csr.KeyType, finish: make(chan error), ended: ctx.Done()}
	g <- u
	if err := <-u.finish; err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: csr.Names, NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, csr.Public, key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	return &cert.Bundle{Leaf: leaf}, err
}

func (gate) GenerateKey(_ context.Context, _ string, t cert.KeyType) (crypto.Signer, error) {
	return cert.GenerateKey(t)
}

func (gate) HasCA(ca string) bool { return ca == "https://ca.example/dir" }

// sealTo is a Mode that allows everything.
type sealTo struct {
	to       age.Recipient
	outcomes chan managed.Outcome
}

func (m sealTo) Delivery(context.Context, managed.Certificate) (renewal.Delivery, error) {
	return renewal.Delivery{Recipients: []age.Recipient{m.to}}, nil
}

func (m sealTo) Settled(_ context.Context, o managed.Outcome) { m.outcomes <- o }

type rig struct {
	st   *store.Store
	id   *age.X25519Identity
	ca   gate
	loop *work.Loop
	stop func() // returns when no work is in flight

	outcomes chan managed.Outcome
}

func newRig(t *testing.T) *rig {
	t.Helper()
	st, err := store.Open(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	id, err := seal.GenerateIdentity()
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{st: st, id: id, ca: make(gate), outcomes: make(chan managed.Outcome, 9)}
	log := slog.New(slog.DiscardHandler)
	q := renewal.NewQueue(renewal.Config{
		Store: st, Issuer: r.ca, DirectoryURL: "https://ca.example/dir", Identity: id, Owner: "me", Logger: log, Now: time.Now,
		Modes: map[clients.Mode]renewal.Mode{"client": sealTo{id.Recipient(), r.outcomes}},
	})
	r.loop = work.NewLoop(q, 4, time.Now, log)
	r.stop = watch.Run(t, r.loop.Run)
	t.Cleanup(r.stop)
	return r
}

func (r *rig) want(t *testing.T, keyType cert.KeyType) managed.Certificate {
	t.Helper()
	m, _, err := r.st.EnsureManaged(t.Context(), managed.Certificate{Mode: "client", Names: []string{"a.example"}, KeyType: string(keyType)})
	if err != nil {
		t.Fatal(err)
	}
	r.loop.Wake()
	return m
}

// keyType returns the key type of the stored bundle.
func (r *rig) keyType(t *testing.T, m managed.Certificate) cert.KeyType {
	t.Helper()
	sealed, err := r.st.BundleFor(t.Context(), m.ID)
	if err != nil {
		t.Fatal(err)
	}
	pem, err := seal.Open(sealed.Ciphertext, r.id)
	if err != nil {
		t.Fatal(err)
	}
	b, err := cert.ParseBundle(pem)
	if err != nil {
		t.Fatal(err)
	}
	got, err := cert.KeyTypeOf(b.Leaf.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// twice begins an issuance, wants something else, and begins that, too.
func (r *rig) twice(t *testing.T) (m managed.Certificate, before, after *underWay) {
	t.Helper()
	m = r.want(t, cert.EC256)
	before = <-r.ca
	r.want(t, cert.EC384)
	after = <-r.ca
	if before.keyType != cert.EC256 || after.keyType != cert.EC384 {
		t.Fatalf("under way are %s and %s", before.keyType, after.keyType)
	}
	return m, before, after
}

// A row's specification changes during an issuance, and the same instance begins
// again. The old issuance must not count, whether it ends first or last.
func TestChangedWhileUnderWay(t *testing.T) {
	for name, beforeFirst := range map[string]bool{"the old one ends first": true, "the new one ends first": false} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			m, before, after := r.twice(t)
			end := func(u *underWay) {
				u.finish <- nil
				<-u.ended
			}
			if beforeFirst {
				end(before)
				if _, err := r.st.BundleFor(t.Context(), m.ID); !errors.Is(err, managed.ErrNotFound) {
					t.Errorf("the old issuance left a bundle: %v", err)
				}
				end(after)
			} else {
				end(after)
				end(before)
			}
			if got := r.keyType(t, m); got != cert.EC384 {
				t.Errorf("stored a certificate with a key of type %s, want ec384", got)
			}
			r.stop()
			if o := <-r.outcomes; o.Err != nil || o.KeyType != string(cert.EC384) || len(r.outcomes) != 0 {
				t.Errorf("outcome %+v and %d others, want that of the new one alone", o, len(r.outcomes))
			}
		})
	}
}

// An issuance that is not wanted any more and fails for good leaves the journal
// and the failures of its successor alone.
func TestFailedPredecessor(t *testing.T) {
	r := newRig(t)
	m, before, after := r.twice(t)
	before.finish <- &acme.Error{Kind: acme.Permanent, Detail: "no"}
	<-before.ended
	if _, err := r.st.OrderFor(t.Context(), m.ID); err != nil {
		t.Errorf("the successor's order: %v", err)
	}
	after.finish <- &acme.Error{Kind: acme.Permanent, Detail: "no"}
	<-after.ended
	if _, err := r.st.OrderFor(t.Context(), m.ID); !errors.Is(err, managed.ErrNotFound) {
		t.Errorf("an order that cannot be finished: %v", err)
	}
	watch.Until(t, "the failure is counted", func() bool {
		row, err := r.st.ManagedByID(t.Context(), m.ID)
		return err == nil && row.Failures > 0 && row.LeaseOwner == ""
	})
	if row, err := r.st.ManagedByID(t.Context(), m.ID); err != nil || row.Failures != 1 {
		t.Errorf("%d failures, %v; want 1", row.Failures, err)
	}
}
