package localca_test

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver/localca"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
)

// fetch requests a URL of a certificate from the handler.
func fetch(t *testing.T, ca *localca.CA, url string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	ca.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, url, nil))
	return w
}

// listed returns the serial numbers and reasons of the CRL that a certificate names.
func listed(t *testing.T, ca *localca.CA, leaf, issuer *x509.Certificate) map[string]int {
	t.Helper()
	got := fetch(t, ca, leaf.CRLDistributionPoints[0])
	if kind := got.Header().Get("Content-Type"); got.Code != http.StatusOK || kind != "application/pkix-crl" {
		t.Fatalf("%d %s", got.Code, kind)
	}
	list, err := x509.ParseRevocationList(got.Body.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if err := list.CheckSignatureFrom(issuer); err != nil {
		t.Fatal(err)
	}
	all := map[string]int{}
	for _, e := range list.RevokedCertificateEntries {
		all[e.SerialNumber.String()] = e.ReasonCode
	}
	return all
}

// A revoked certificate is in the CRL of its issuer with its reason, also after a
// rotation and a restart (C18).
func TestRevoke(t *testing.T) {
	t.Parallel()
	now := time.Now()
	cfg := localca.Config{Dir: t.TempDir(), URL: base, Now: func() time.Time { return now }}
	ca := open(t, cfg)
	chain := parse(t, issue(t, ca, acmeserver.Order{ID: "1"}, newCSR(t, cert.EC256, "a.example.com")).Chain)
	leaf, issuer := chain[0], chain[1]
	if all := listed(t, ca, leaf, issuer); len(all) != 0 {
		t.Errorf("before: %v", all)
	}
	for _, reason := range []int{4, 1} { // the first one counts, and a second is no error
		if err := ca.Revoke(t.Context(), acmeserver.RevokeRequest{Leaf: leaf, Reason: reason}); err != nil {
			t.Fatal(err)
		}
	}
	if err := ca.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	next := parse(t, issue(t, ca, acmeserver.Order{ID: "2"}, newCSR(t, cert.EC256, "b.example.com")).Chain)
	if err := ca.Revoke(t.Context(), acmeserver.RevokeRequest{Leaf: next[0], Reason: 0}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if all := listed(t, ca, leaf, issuer); len(all) != 1 || all[leaf.SerialNumber.String()] != 4 {
			t.Errorf("%v", all)
		}
		if all := listed(t, ca, next[0], next[1]); len(all) != 1 {
			t.Errorf("after the rotation: %v", all)
		}
		if current, err := x509.ParseRevocationList(ca.CRL()); err != nil || current.CheckSignatureFrom(next[1]) != nil || len(current.RevokedCertificateEntries) != 1 {
			t.Errorf("CRL: %v", err)
		}
		ca.Close()
		ca = open(t, cfg)
	}
	// It leaves the CRL a while after it expired. A clock that was ahead loses nothing.
	for _, at := range []struct{ days, want int }{{91, 1}, {100, 0}, {400, 0}, {91, 1}} {
		now = leaf.NotBefore.Add(time.Duration(at.days) * 24 * time.Hour)
		for range 2 {
			if all := listed(t, ca, leaf, issuer); len(all) != at.want {
				t.Errorf("after %d days: %v", at.days, all)
			}
			ca.Close()
			ca = open(t, cfg)
		}
	}
}

// Certificates of others and reasons that no server's certificate can have are refused.
func TestRevokeRefused(t *testing.T) {
	t.Parallel()
	ca, other := open(t, localca.Config{}), open(t, localca.Config{})
	csr := newCSR(t, cert.EC256, "a.example.com")
	own := parse(t, issue(t, ca, acmeserver.Order{ID: "1"}, csr).Chain)[0]
	foreign := parse(t, issue(t, other, acmeserver.Order{ID: "1"}, csr).Chain)[0]
	var refused *acme.Problem
	if err := ca.Revoke(t.Context(), acmeserver.RevokeRequest{Leaf: foreign, Reason: 0}); !errors.As(err, &refused) || refused.Type != acme.Malformed {
		t.Errorf("%v", err)
	}
	for _, reason := range []int{-1, 2, 6, 7, 8, 10, 11} {
		if err := ca.Revoke(t.Context(), acmeserver.RevokeRequest{Leaf: own, Reason: reason}); !errors.As(err, &refused) || refused.Type != acme.BadRevocationReason {
			t.Errorf("%d: %v", reason, err)
		}
	}
	if list, err := x509.ParseRevocationList(ca.CRL()); err != nil || len(list.RevokedCertificateEntries) != 0 {
		t.Errorf("the CRL has entries, %v", err)
	}
}

// The numbers of CRLs increase, also across a restart, and a CRL is signed again before
// it ends.
func TestCRLNumber(t *testing.T) {
	t.Parallel()
	now := time.Now()
	cfg := localca.Config{Dir: t.TempDir(), Now: func() time.Time { return now }}
	ca := open(t, cfg)
	var last *x509.RevocationList
	for i := range 4 {
		list, err := x509.ParseRevocationList(ca.CRL())
		if err != nil {
			t.Fatal(err)
		}
		if last != nil && (list.Number.Cmp(last.Number) <= 0 || !last.NextUpdate.After(now)) {
			t.Errorf("number %s after %s, next update %s at %s", list.Number, last.Number, last.NextUpdate, now)
		}
		if same := ca.CRL(); !bytes.Equal(same, list.Raw) {
			t.Error("signed twice without a reason")
		}
		last = list
		switch i {
		case 0:
			leaf := parse(t, issue(t, ca, acmeserver.Order{ID: "1"}, newCSR(t, cert.EC256, "a.example.com")).Chain)[0]
			if err := ca.Revoke(t.Context(), acmeserver.RevokeRequest{Leaf: leaf, Reason: 0}); err != nil {
				t.Fatal(err)
			}
		case 1:
			now = now.Add(24 * time.Hour)
		case 2:
			now = now.Add(time.Second)
			ca.Close()
			ca = open(t, cfg)
		}
	}
}

// A line that a crash cut was not confirmed, and does not damage the next one.
func TestCutLine(t *testing.T) {
	t.Parallel()
	cfg := localca.Config{Dir: t.TempDir(), URL: base}
	ca := open(t, cfg)
	var chains [][]*x509.Certificate
	for i := range 2 {
		chains = append(chains, parse(t, issue(t, ca, acmeserver.Order{ID: fmt.Sprint(i)}, newCSR(t, cert.EC256, "a.example.com")).Chain))
		if err := ca.Revoke(t.Context(), acmeserver.RevokeRequest{Leaf: chains[i][0], Reason: 0}); err != nil {
			t.Fatal(err)
		}
	}
	ca.Close()
	path := filepath.Join(cfg.Dir, "revoked")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for cut := bytes.IndexByte(data, '\n') + 1; cut < len(data); cut++ {
		if err := os.WriteFile(path, data[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		ca = open(t, cfg)
		if all := listed(t, ca, chains[0][0], chains[0][1]); len(all) != 1 {
			t.Errorf("cut at %d: %v", cut, all)
		}
		if err := ca.Revoke(t.Context(), acmeserver.RevokeRequest{Leaf: chains[1][0], Reason: 0}); err != nil {
			t.Fatal(err)
		}
		ca.Close()
		ca = open(t, cfg)
		if all := listed(t, ca, chains[0][0], chains[0][1]); len(all) != 2 {
			t.Errorf("cut at %d, then revoked: %v", cut, all)
		}
		ca.Close()
	}
}

// A start writes no file that is right already, since the disk may be full.
func TestOpenRewritesNothing(t *testing.T) {
	t.Parallel()
	cfg := localca.Config{Dir: t.TempDir()}
	files := func() map[string]os.FileInfo {
		found := map[string]os.FileInfo{}
		entries, err := os.ReadDir(cfg.Dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if found[e.Name()], err = e.Info(); err != nil {
				t.Fatal(err)
			}
		}
		return found
	}
	ca := open(t, cfg)
	leaf := parse(t, issue(t, ca, acmeserver.Order{ID: "1"}, newCSR(t, cert.EC256, "a.example.com")).Chain)[0]
	if err := ca.Revoke(t.Context(), acmeserver.RevokeRequest{Leaf: leaf, Reason: 1}); err != nil {
		t.Fatal(err)
	}
	if err := ca.Close(); err != nil {
		t.Fatal(err)
	}
	before := files()
	if before["revoked"] == nil {
		t.Fatal("there is no file of revocations")
	}
	open(t, cfg)
	for name, now := range files() {
		if old := before[name]; old == nil || !os.SameFile(old, now) || !old.ModTime().Equal(now.ModTime()) {
			t.Errorf("%s was written", name)
		}
	}
}

// Every URL in a certificate leads to what it promises.
func TestHandler(t *testing.T) {
	t.Parallel()
	ca := open(t, localca.Config{URL: base})
	if err := ca.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	issued := issue(t, ca, acmeserver.Order{ID: "1"}, newCSR(t, cert.EC256, "a.example.com"))
	for _, c := range parse(t, issued.Chain) {
		got := fetch(t, ca, c.IssuingCertificateURL[0])
		issuer, err := x509.ParseCertificate(got.Body.Bytes())
		if err != nil {
			t.Fatalf("%s: %v", c.IssuingCertificateURL, err)
		}
		if err := c.CheckSignatureFrom(issuer); err != nil || got.Header().Get("Content-Type") != "application/pkix-cert" {
			t.Errorf("%s: %v", c.IssuingCertificateURL, err)
		}
		listed(t, ca, c, issuer)
	}
	if got := fetch(t, ca, base+"/root.pem"); !bytes.Equal(got.Body.Bytes(), ca.Roots()) {
		t.Error("root.pem differs")
	}
	for _, name := range []string{"/root-9.crl", "/issuing-1.pem", "/issuing-1", "/", "/ca-1.pem", "/revoked"} {
		if got := fetch(t, ca, base+name); got.Code != http.StatusNotFound {
			t.Errorf("%s: %d", name, got.Code)
		}
	}
	w := httptest.NewRecorder()
	ca.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, base+"/root.pem", nil))
	if w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") == "" {
		t.Errorf("POST: %d", w.Code)
	}
}

// OpenSSL accepts the chains, and refuses a revoked certificate.
func TestOpenSSL(t *testing.T) {
	t.Parallel()
	openssl := pebbletest.Tool(t, "openssl")
	ca := open(t, localca.Config{URL: base})
	first := ca.Root()
	if err := ca.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	issued := issue(t, ca, acmeserver.Order{ID: "1"}, newCSR(t, cert.EC256, "a.example.com"))
	all := parse(t, issued.Chain)
	crls := func() (files []byte) {
		for _, c := range all {
			list := fetch(t, ca, c.CRLDistributionPoints[0]).Body.Bytes()
			files = append(files, pemOf("X509 CRL", list)...)
		}
		return append(files, pemOf("X509 CRL", fetch(t, ca, base+"/root-2.crl").Body.Bytes())...)
	}
	dir := t.TempDir()
	check := func(roots []byte) string {
		var args []string
		for name, data := range map[string][]byte{"CAfile": roots, "untrusted": issued.Chain, "CRLfile": crls()} {
			file := filepath.Join(dir, name)
			if err := os.WriteFile(file, data, 0o600); err != nil {
				t.Fatal(err)
			}
			args = append(args, "-"+name, file)
		}
		args = slices.Concat([]string{"verify", "-x509_strict", "-crl_check_all", "-verify_hostname", "a.example.com"}, args, []string{filepath.Join(dir, "untrusted")})
		out, err := exec.CommandContext(t.Context(), openssl, args...).CombinedOutput()
		if err != nil {
			return string(out)
		}
		return ""
	}
	for _, roots := range [][]byte{first, ca.Root()} {
		if out := check(roots); out != "" {
			t.Error(out)
		}
	}
	if err := ca.Revoke(t.Context(), acmeserver.RevokeRequest{Leaf: all[0], Reason: 1}); err != nil {
		t.Fatal(err)
	}
	if out := check(first); !bytes.Contains([]byte(out), []byte("certificate revoked")) {
		t.Errorf("revoked: %q", out)
	}
}

// A clock that was far ahead, while the CA was created, rotated, or signed a CRL and a
// certificate of its own, does no lasting harm once it is right.
func TestClockAhead(t *testing.T) {
	t.Parallel()
	const years = 5 * 365 * 24 * time.Hour
	right := time.Now()
	now := right
	cfg := localca.Config{Dir: t.TempDir(), URL: base, Now: func() time.Time { return now }}
	number := func(ca *localca.CA) *big.Int {
		t.Helper()
		list, err := x509.ParseRevocationList(ca.CRL())
		if err != nil {
			t.Fatal(err)
		}
		return list.Number
	}
	csr := newCSR(t, cert.EC256, "a.example.com")
	ca := open(t, cfg)
	own := ca.GetCertificate("localhost")
	now = right.Add(years)
	if _, err := own(nil); err != nil {
		t.Fatal(err)
	}
	before := number(ca)
	now = right
	if c, err := own(nil); err != nil || c.Leaf.NotBefore.After(now) {
		t.Errorf("its own certificate is valid from %s on, %v", c.Leaf.NotBefore, err)
	}
	ca.Close()
	ca = open(t, cfg)
	if after := number(ca); after.Cmp(before) <= 0 {
		t.Errorf("CRL number %s after %s", after, before)
	}
	now = right.Add(years)
	if err := ca.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	now = right
	var refused *acme.Problem
	_, err := ca.Issue(t.Context(), acmeserver.IssueRequest{Order: acmeserver.Order{ID: "1", CreatedAt: now}, CSR: csr})
	if err == nil || errors.As(err, &refused) || !strings.Contains(err.Error(), "rotate") {
		t.Errorf("with a CA of the future: %v", err)
	}
	if err := ca.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	issued := issue(t, ca, acmeserver.Order{ID: "2", CreatedAt: now}, csr)
	for _, chain := range append([][]byte{issued.Chain}, issued.Alternates...) {
		for _, c := range parse(t, chain) {
			if c.NotBefore.After(now) {
				t.Errorf("%s is in a chain, and valid from %s on", c.Subject, c.NotBefore)
			}
		}
	}
}
