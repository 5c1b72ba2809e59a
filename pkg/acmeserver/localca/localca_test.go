package localca_test

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver/localca"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/localfile"
)

// base is the URL of the CRLs in these tests.
const base = "http://ca.example.com/ca"

func open(t *testing.T, cfg localca.Config) *localca.CA {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	ca, err := localca.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ca.Close() })
	return ca
}

// newCSR returns a checked CSR.
func newCSR(t *testing.T, kind cert.KeyType, names ...string) *cert.CSR {
	t.Helper()
	key, err := cert.GenerateKey(kind)
	if err != nil {
		t.Fatal(err)
	}
	return csrFor(t, key, names...)
}

func csrFor(t *testing.T, key crypto.Signer, names ...string) *cert.CSR {
	t.Helper()
	set, err := cert.ParseNames(names...)
	if err != nil {
		t.Fatal(err)
	}
	der, err := cert.NewCSR(key, set)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := cert.ParseCSR(der)
	if err != nil {
		t.Fatal(err)
	}
	return csr
}

func issue(t *testing.T, ca *localca.CA, o acmeserver.Order, csr *cert.CSR) acmeserver.Issued {
	t.Helper()
	issued, err := ca.Issue(t.Context(), acmeserver.IssueRequest{Order: o, CSR: csr})
	if err != nil {
		t.Fatal(err)
	}
	return issued
}

// parse returns the certificates of a PEM chain.
func parse(t *testing.T, chain []byte) (all []*x509.Certificate) {
	t.Helper()
	for block, rest := pem.Decode(chain); block != nil; block, rest = pem.Decode(rest) {
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	return all
}

// verify checks a chain as a TLS client does that trusts only these roots.
func verify(t *testing.T, chain, roots []byte, name string, at time.Time) error {
	t.Helper()
	all := parse(t, chain)
	opts := x509.VerifyOptions{DNSName: name, Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: at}
	opts.Roots.AppendCertsFromPEM(roots)
	for _, c := range all[1:] {
		opts.Intermediates.AddCert(c)
	}
	_, err := all[0].Verify(opts)
	return err
}

// The keys are created once, in private files, and another process is kept out.
func TestOpen(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "new", "ca")
	cfg := localca.Config{Dir: dir, CommonName: "Example"}
	first := open(t, cfg)
	root := first.Root()
	if c := parse(t, root)[0]; c.Subject.CommonName != "Example Root 1" || !c.IsCA {
		t.Errorf("the root is %s", c.Subject)
	}
	if _, err := localca.Open(cfg); !errors.Is(err, localfile.ErrLocked) {
		t.Errorf("a second open: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	// What a crash while writing leaves must not stay: it may hold a key.
	leftover := filepath.Join(dir, ".ca-2.pem123")
	if err := os.WriteFile(leftover, []byte("key"), 0o600); err != nil {
		t.Fatal(err)
	}
	if again := open(t, cfg); !bytes.Equal(again.Root(), root) {
		t.Error("the second start has another root")
	}
	if _, err := os.Stat(leftover); !os.IsNotExist(err) {
		t.Errorf("the leftover: %v", err)
	}
	if runtime.GOOS == "windows" {
		return
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, %v", e.Name(), info.Mode(), err)
		}
	}
}

// A damaged folder is an error that names the file, never a new CA.
func TestDamaged(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(dir string) error{
		"cut":      func(dir string) error { return os.Truncate(filepath.Join(dir, "ca-1.pem"), 300) },
		"empty":    func(dir string) error { return os.Truncate(filepath.Join(dir, "ca-1.pem"), 0) },
		"lost key": func(dir string) error { return os.Remove(filepath.Join(dir, "ca-1.pem")) },
		"revocations": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "revoked"), []byte("issuing-1 zz 1 2 3\n"), 0o600)
		},
		"number": func(dir string) error { return os.WriteFile(filepath.Join(dir, "crl-number"), []byte("x\n"), 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := localca.Config{Dir: t.TempDir()}
			ca := open(t, cfg)
			leaf := parse(t, issue(t, ca, acmeserver.Order{ID: "1"}, newCSR(t, cert.EC256, "a.example.com")).Chain)[0]
			if err := ca.Revoke(t.Context(), acmeserver.RevokeRequest{Leaf: leaf, Reason: 0}); err != nil {
				t.Fatal(err)
			}
			ca.Close()
			if err := damage(cfg.Dir); err != nil {
				t.Fatal(err)
			}
			if _, err := localca.Open(cfg); err == nil || !strings.Contains(err.Error(), cfg.Dir) || !strings.Contains(err.Error(), "restore") {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	for want, cfg := range map[string]localca.Config{
		"Dir":          {},
		"CommonName":   {Dir: "x", CommonName: strings.Repeat("a", 60)},
		"Country":      {Dir: "x", Country: "Germany"},
		"Lifetime":     {Dir: "x", Lifetime: time.Second},
		"RootLifetime": {Dir: "x", Lifetime: 2 * time.Hour, RootLifetime: time.Hour},
		"URL":          {Dir: "x", URL: "ca.example.com"},
	} {
		if _, err := localca.Open(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// A certificate has the names and the key of the CSR, and the chain is complete (C17).
func TestIssue(t *testing.T) {
	t.Parallel()
	ca := open(t, localca.Config{URL: base})
	for _, kind := range []cert.KeyType{cert.EC256, cert.EC384, cert.RSA2048} {
		csr := newCSR(t, kind, "web1.example.com", "*.example.com", "192.0.2.1", "2001:db8::1")
		issued := issue(t, ca, acmeserver.Order{ID: string(kind)}, csr)
		for _, name := range []string{"web1.example.com", "web2.example.com", "192.0.2.1", "2001:db8::1"} {
			if err := verify(t, issued.Chain, ca.Root(), name, time.Now()); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		all := parse(t, issued.Chain)
		leaf := all[0]
		names, err := cert.LeafNames(leaf)
		if err != nil || !names.Equal(csr.Names) || !cert.SameKey(leaf.PublicKey, csr.Public) {
			t.Errorf("names %s, %v", names, err)
		}
		if len(all) != 2 || len(issued.Alternates) != 0 || len(issued.State) != 0 {
			t.Errorf("%d certificates, %d alternates", len(all), len(issued.Alternates))
		}
		if _, err := cert.NewBundle(issued.Chain, nil, csr.Public, csr.Names); err != nil {
			t.Error(err)
		}
		if bits := leaf.SerialNumber.BitLen(); bits != 129 {
			t.Errorf("the serial number has %d bits", bits)
		}
		if !slices.Equal(leaf.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}) || leaf.IsCA {
			t.Errorf("usage %v, CA %t", leaf.ExtKeyUsage, leaf.IsCA)
		}
		if !slices.Equal(leaf.CRLDistributionPoints, []string{base + "/issuing-1.crl"}) {
			t.Errorf("CRL at %v", leaf.CRLDistributionPoints)
		}
		if life := leaf.NotAfter.Sub(leaf.NotBefore) + time.Second; life != 90*24*time.Hour {
			t.Errorf("lifetime %s", life)
		}
	}
}

// An order that is issued again after a crash has the same certificate. No two other
// ones share a serial number.
func TestIssueAgain(t *testing.T) {
	t.Parallel()
	now := time.Now()
	cfg := localca.Config{Dir: t.TempDir(), Now: func() time.Time { return now }}
	ca := open(t, cfg)
	csr := newCSR(t, cert.EC256, "a.example.com")
	order := acmeserver.Order{ID: "1", CreatedAt: now}
	first := issue(t, ca, order, csr)
	ca.Close()
	now = now.Add(50 * time.Minute)
	ca = open(t, cfg)
	if again := issue(t, ca, order, csr); !bytes.Equal(first.Chain, again.Chain) {
		t.Error("the same order has another certificate")
	}
	seen := map[string]bool{parse(t, first.Chain)[0].SerialNumber.String(): true}
	for name, o := range map[string]acmeserver.Order{
		"another order": {ID: "2", CreatedAt: now},
		"later":         {ID: "1", CreatedAt: now.Add(-3 * time.Hour)},
		"other dates":   {ID: "1", CreatedAt: now, NotAfter: now.Add(time.Hour)},
	} {
		serial := parse(t, issue(t, ca, o, csr).Chain)[0].SerialNumber.String()
		if seen[serial] {
			t.Errorf("%s: serial number %s occurs twice", name, serial)
		}
		seen[serial] = true
	}
	if serial := parse(t, issue(t, ca, order, newCSR(t, cert.EC256, "a.example.com")).Chain)[0].SerialNumber.String(); seen[serial] {
		t.Error("another key has the same serial number")
	}
}

// The order's dates are those of the certificate, within the CA's (C16).
func TestDates(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	ca := open(t, localca.Config{Lifetime: 10 * day, RootLifetime: 30 * day, Now: func() time.Time { return now }})
	csr := newCSR(t, cert.EC256, "a.example.com")
	at := func(days int) time.Time { return now.Add(time.Duration(days) * day) }
	for name, test := range map[string]struct {
		notBefore, notAfter time.Time
		wantBefore          time.Time // zero: an hour or less before now
		wantAfter           time.Time // zero: refused
	}{
		"none":             {time.Time{}, time.Time{}, time.Time{}, at(10).Add(-time.Hour - time.Second)},
		"both":             {at(1), at(2), at(1), at(2)},
		"the end":          {time.Time{}, at(10), time.Time{}, at(10)},
		"the start":        {at(-1), time.Time{}, at(-1), at(9).Add(-time.Second)},
		"too early":        {at(-2), at(2), time.Time{}, time.Time{}},
		"too late":         {at(1), at(11), time.Time{}, time.Time{}},
		"in the past":      {at(-1), at(-1).Add(time.Hour), time.Time{}, time.Time{}},
		"the wrong way":    {at(3), at(2), time.Time{}, time.Time{}},
		"starts later":     {at(5), time.Time{}, at(5), at(10)},
		"beyond all dates": {at(40), at(41), time.Time{}, time.Time{}},
	} {
		order := acmeserver.Order{ID: name, CreatedAt: now, NotBefore: test.notBefore, NotAfter: test.notAfter}
		issued, err := ca.Issue(t.Context(), acmeserver.IssueRequest{Order: order, CSR: csr})
		var refused *acme.Problem
		if test.wantAfter.IsZero() {
			if !errors.As(err, &refused) || refused.Type != acme.Malformed {
				t.Errorf("%s: %v", name, err)
			}
			if err := ca.CheckDates(test.notBefore, test.notAfter); !errors.As(err, &refused) {
				t.Errorf("%s: checked: %v", name, err)
			}
			request := acmeserver.OrderRequest{NotBefore: test.notBefore, NotAfter: test.notAfter}
			if _, err := ca.Policy(acmeserver.Trusting{}).Order(t.Context(), request); !errors.As(err, &refused) {
				t.Errorf("%s: policy: %v", name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if err := ca.CheckDates(test.notBefore, test.notAfter); err != nil {
			t.Errorf("%s: checked: %v", name, err)
		}
		if test.wantBefore.IsZero() {
			test.wantBefore = now.Add(-time.Hour)
		}
		if leaf := parse(t, issued.Chain)[0]; !leaf.NotBefore.Equal(test.wantBefore) || !leaf.NotAfter.Equal(test.wantAfter) {
			t.Errorf("%s: %s to %s, want %s to %s", name, leaf.NotBefore, leaf.NotAfter, test.wantBefore, test.wantAfter)
		}
	}
	// Near the end of the CA, certificates are shorter. After it, the CA issues no more.
	now = at(25)
	leaf := parse(t, issue(t, ca, acmeserver.Order{ID: "1", CreatedAt: now}, csr).Chain)[0]
	if end := parse(t, ca.Root())[0].NotAfter; !leaf.NotAfter.Equal(end) {
		t.Errorf("ends %s, the CA %s", leaf.NotAfter, end)
	}
	now = at(10)
	_, err := ca.Issue(t.Context(), acmeserver.IssueRequest{Order: acmeserver.Order{ID: "1", CreatedAt: now}, CSR: csr})
	if refused := (*acme.Problem)(nil); err == nil || errors.As(err, &refused) {
		t.Errorf("after the end: %v", err)
	}
}
