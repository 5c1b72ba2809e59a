package localca_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver/localca"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
)

// After a rotation, clients of the old and of the new root accept a new certificate
// (C14, C24), also after a restart.
func TestRotate(t *testing.T) {
	t.Parallel()
	cfg := localca.Config{Dir: t.TempDir(), URL: base}
	ca := open(t, cfg)
	csr := newCSR(t, cert.EC256, "a.example.com")
	roots := [][]byte{ca.Root()}
	before := issue(t, ca, acmeserver.Order{ID: "1"}, csr)
	for i := range 3 {
		if err := ca.Rotate(t.Context()); err != nil {
			t.Fatal(err)
		}
		if i == 1 {
			ca.Close()
			ca = open(t, cfg)
		}
		roots = append(roots, ca.Root())
		issued := issue(t, ca, acmeserver.Order{ID: "2"}, csr)
		newest, chains := i+1, append([][]byte{issued.Chain}, issued.Alternates...)
		if want := min(newest, 2) + 1; len(chains) != want {
			t.Errorf("generation %d has %d chains, want %d", newest+1, len(chains), want)
		}
		for j, chain := range chains {
			// Chain j leads to the root len(chains)-1-j generations back, and to all later ones.
			oldest := newest - (len(chains) - 1 - j)
			for k, root := range roots {
				err := verify(t, chain, root, "a.example.com", time.Now())
				if ok := k >= oldest; ok != (err == nil) {
					t.Errorf("generation %d, chain %d, root %d: %v", newest+1, j, k+1, err)
				}
			}
		}
		if err := verify(t, before.Chain, ca.Roots(), "a.example.com", time.Now()); err != nil {
			t.Errorf("the old certificate with all roots: %v", err)
		}
	}
	if n := len(parse(t, ca.Roots())); n != 4 {
		t.Errorf("%d roots", n)
	}
}

// A rotation that fails changes nothing (C14).
func TestRotateFails(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca := open(t, localca.Config{Dir: dir})
	root := ca.Root()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := ca.Rotate(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	// A folder with the name of the next file cannot be replaced.
	blocked := filepath.Join(dir, "ca-2.pem")
	if err := os.MkdirAll(filepath.Join(blocked, "full"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := ca.Rotate(t.Context()); err == nil {
		t.Error("no error")
	}
	if !bytes.Equal(ca.Root(), root) {
		t.Error("the root changed")
	}
	issued := issue(t, ca, acmeserver.Order{ID: "1"}, newCSR(t, cert.EC256, "a.example.com"))
	if err := verify(t, issued.Chain, root, "a.example.com", time.Now()); err != nil {
		t.Error(err)
	}
	if err := os.RemoveAll(blocked); err != nil {
		t.Fatal(err)
	}
	if err := ca.Rotate(t.Context()); err != nil || bytes.Equal(ca.Root(), root) {
		t.Errorf("the next rotation: %v", err)
	}
}

// Orders are issued while the CA rotates and revokes (C14).
func TestConcurrent(t *testing.T) {
	t.Parallel()
	ca := open(t, localca.Config{URL: base})
	csr := newCSR(t, cert.EC256, "a.example.com")
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for j := range 20 {
				issued, err := ca.Issue(context.Background(), acmeserver.IssueRequest{CSR: csr, Order: acmeserver.Order{ID: string(rune('a'+i)) + string(rune('a'+j))}})
				if err != nil {
					t.Error(err)
					return
				}
				leaf := parse(t, issued.Chain)[0]
				if err := ca.Revoke(context.Background(), acmeserver.RevokeRequest{Leaf: leaf, Reason: 1}); err != nil {
					t.Error(err)
				}
				ca.CRL()
			}
		})
	}
	for range 3 {
		if err := ca.Rotate(t.Context()); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
}

// The window for a renewal is two thirds on, soon after a rotation, and past after a
// revocation (RFC 9773, section 4.2).
func TestRenewalInfo(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	now := start
	ca := open(t, localca.Config{Lifetime: 30 * 24 * time.Hour, Now: func() time.Time { return now }})
	leaf := parse(t, issue(t, ca, acmeserver.Order{ID: "1", CreatedAt: now}, newCSR(t, cert.EC256, "a.example.com")).Chain)[0]
	id, err := acme.CertID(leaf)
	if err != nil {
		t.Fatal(err)
	}
	c := acmeserver.Certificate{ARIID: id, NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter}
	check := func(what string, first, last time.Duration) {
		t.Helper()
		info, err := ca.RenewalInfo(t.Context(), c)
		if err != nil || info.Start.Before(start.Add(first)) || info.End.After(start.Add(last)) || !info.Start.Before(info.End) {
			t.Errorf("%s: %s to %s, %v", what, info.Start, info.End, err)
		}
	}
	const day = 24 * time.Hour
	check("fresh", 19*day, 22*day)
	now = now.Add(5 * day)
	if err := ca.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	check("rotated", 5*day, 7*day)
	if err := ca.Revoke(t.Context(), acmeserver.RevokeRequest{Leaf: leaf, Reason: 0}); err != nil {
		t.Fatal(err)
	}
	check("revoked", 4*day, 5*day)
	c = acmeserver.Certificate{ARIID: "x", NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter}
	check("unknown", 19*day, 22*day)
}
