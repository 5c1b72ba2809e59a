package sign_test

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmems"
	"github.com/acmeproxy/acmeproxy/pkg/audit"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/modes/sign"
	"github.com/acmeproxy/acmeproxy/pkg/policy"
	"github.com/acmeproxy/acmeproxy/pkg/trail"
)

// entries stores the audit trail and no quotas.
type entries struct {
	mu  sync.Mutex
	all []trail.Entry
}

func (e *entries) AppendAudit(_ context.Context, all ...trail.Entry) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, all...)
	return nil
}

func (e *entries) AppendAuditLazily(ctx context.Context, all ...trail.Entry) error {
	return e.AppendAudit(ctx, all...)
}

func (e *entries) TakeQuota(context.Context, string, time.Time, int, ...trail.Entry) (bool, error) {
	return true, nil
}
func (e *entries) ReturnQuota(context.Context, string, time.Time) error       { return nil }
func (e *entries) QuotaTaken(context.Context, string, time.Time) (int, error) { return 0, nil }

// slowCA issues when it is told to, and counts.
type slowCA struct {
	t      *testing.T
	mu     sync.Mutex
	orders int
	begin  chan error
}

func (c *slowCA) Issue(ctx context.Context, req cert.Request, _ func(acme.Event)) (*cert.Bundle, error) {
	c.mu.Lock()
	c.orders++
	serial := int64(c.orders)
	c.mu.Unlock()
	select {
	case err := <-c.begin:
		if err != nil {
			return nil, err
		}
		return issue(c.t, req, serial), nil
	case <-ctx.Done():
		return nil, &acme.Error{Kind: acme.Temporary, Detail: "stopped", Err: ctx.Err()}
	}
}

// issue returns a certificate of a new CA for a request.
func issue(t *testing.T, req cert.Request, serial int64) *cert.Bundle {
	csr, err := x509.ParseCertificateRequest(req.CSR)
	if err != nil {
		t.Error(err)
		return nil
	}
	key, err := cert.GenerateKey(cert.EC256)
	if err != nil {
		t.Error(err)
		return nil
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now(), NotAfter: time.Now().Add(1000 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(serial), NotBefore: ca.NotBefore, NotAfter: ca.NotAfter, DNSNames: csr.DNSNames}
	var chain []byte
	for _, c := range []struct {
		template *x509.Certificate
		public   any
	}{{leaf, csr.PublicKey}, {ca, key.Public()}} {
		der, err := x509.CreateCertificate(nil, c.template, ca, c.public, key)
		if err != nil {
			t.Error(err)
		}
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	b, err := cert.NewBundle(chain, nil, csr.PublicKey, req.Names)
	if err != nil {
		t.Error(err)
	}
	return b
}

func newDoor(t *testing.T, ca sign.Issuer, ini string) (*sign.Door, *entries) {
	t.Helper()
	rules, err := acmems.Parse([]byte("[account]\ndir=/nowhere\n" + ini))
	if err != nil {
		t.Fatal(err)
	}
	stored := &entries{}
	logger := slog.New(slog.DiscardHandler)
	return sign.New(sign.Config{
		Rules: rules, Audit: audit.New(audit.Config{Store: stored, Logger: logger}), Logger: logger,
		Issuer:   func(acmems.Verification) (sign.Issuer, func()) { return ca, func() {} },
		OwnNames: func() []string { return []string{"", "proxy.example.org"} },
	}), stored
}

func newCSR(t *testing.T, names ...string) []byte {
	t.Helper()
	key, err := cert.GenerateKey(cert.EC256)
	if err != nil {
		t.Fatal(err)
	}
	der, err := cert.NewCSR(key, names)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

var here = acmems.Caller{Addr: netip.MustParseAddr("127.0.0.1")}

func attempt(ctx context.Context, d *sign.Door, csr []byte) ([]byte, error) {
	a, err := d.Begin(ctx, here)
	if err != nil {
		return nil, err
	}
	return a(ctx, csr)
}

// No block gets a certificate for the proxy's own name, whatever it allows (X1).
func TestOwnName(t *testing.T) {
	t.Parallel()
	ca := &slowCA{t: t, begin: make(chan error)}
	d, stored := newDoor(t, ca, "[auth a]\nip=127.0.0.1\ndomain=*.example.org\n")
	_, err := attempt(t.Context(), d, newCSR(t, "www.example.org", "Proxy.example.org"))
	var denied *policy.Denied
	if !errors.As(err, &denied) || !strings.Contains(denied.Reason, "proxy.example.org is the name of the proxy itself") {
		t.Errorf("%v", err)
	}
	if len(stored.all) != 1 || stored.all[0].Outcome != trail.Refused || ca.orders != 0 {
		t.Errorf("%+v, %d orders", stored.all, ca.orders)
	}
}

// Parallel requests with the same CSR have one order, with and without a cache (M36). The
// issuance survives the caller that began it. Another CSR has its own order.
func TestParallel(t *testing.T) {
	t.Parallel()
	for _, storage := range []string{"type=none", "type=file\ndirectory=" + t.TempDir()} {
		synctest.Test(t, func(t *testing.T) {
			ca := &slowCA{t: t, begin: make(chan error)}
			d, stored := newDoor(t, ca, "[storage s]\n"+storage+"\n[auth web]\nall=yes\ndomain=*\n")
			csr := newCSR(t, "www.example.org")
			first, leave := context.WithCancel(t.Context())
			var all sync.WaitGroup
			all.Go(func() {
				if _, err := attempt(first, d, csr); !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			})
			synctest.Wait()
			leave()
			chains := make([]string, 5)
			for i := range chains {
				all.Go(func() {
					chain, err := attempt(t.Context(), d, csr)
					if err != nil {
						t.Error(err)
					}
					chains[i] = string(chain)
				})
			}
			synctest.Wait()
			ca.begin <- nil
			all.Wait()
			for _, chain := range chains {
				if chain != chains[0] || strings.Count(chain, "\n\n") != 1 || !strings.HasSuffix(chain, "-") { // M2
					t.Errorf("%q", chain)
				}
			}
			if ca.orders != 1 || len(stored.all) != 2 {
				t.Errorf("%d orders, %v", ca.orders, stored.all)
			}
			all.Go(func() {
				if _, err := attempt(t.Context(), d, newCSR(t, "www.example.org")); err != nil {
					t.Error(err)
				}
			})
			ca.begin <- nil
			all.Wait()
		})
	}
}

// A failure is not kept: the next request orders again. An issuance that takes too long
// ends (M14), and so does one that is in flight when the proxy stops.
func TestFailure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ca := &slowCA{t: t, begin: make(chan error, 1)}
		d, _ := newDoor(t, ca, "[auth web]\nall=yes\ndomain=*\n")
		csr := newCSR(t, "www.example.org")
		ca.begin <- &acme.Error{Kind: acme.Permanent}
		if _, err := attempt(t.Context(), d, csr); err == nil {
			t.Error("no error")
		}
		ca.begin <- nil
		if _, err := attempt(t.Context(), d, csr); err != nil {
			t.Error(err)
		}
		begin := time.Now()
		if _, err := attempt(t.Context(), d, csr); err == nil || time.Since(begin) != 90*time.Second {
			t.Errorf("%v after %s", err, time.Since(begin))
		}
		var all sync.WaitGroup
		all.Go(func() {
			if _, err := attempt(t.Context(), d, csr); err == nil {
				t.Error("no error")
			}
		})
		synctest.Wait()
		grace, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		begin = time.Now()
		d.Close(grace)
		all.Wait()
		if took := time.Since(begin); took != 5*time.Second {
			t.Errorf("closed after %s", took)
		}
		var e *acme.Error
		if _, err := attempt(t.Context(), d, csr); !errors.As(err, &e) || e.Kind != acme.Temporary {
			t.Errorf("after the end: %v", err)
		}
	})
}

// A cache that cannot be written does not cost the certificate, and what a crash left
// behind does no harm.
func TestCacheFails(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	ca := &slowCA{t: t, begin: make(chan error, 10)}
	d, _ := newDoor(t, ca, "[storage s]\ntype=file\ndirectory="+file+"\n[auth web]\nall=yes\ndomain=*\n")
	for range 2 {
		ca.begin <- nil
		if _, err := attempt(t.Context(), d, newCSR(t, "www.example.org")); err != nil {
			t.Error(err)
		}
	}
}
