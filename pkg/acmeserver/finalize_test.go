package acmeserver_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/rawacme"
	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
)

type (
	issueRequest = acmeserver.IssueRequest
	issued       = acmeserver.Issued
)

func TestFinalizeAgain(t *testing.T) {
	inLab(t, nil, func(l *lab) {
		c := l.account(l.start())
		o := c.newOrder("a.example.com")
		csr := rawacme.Fields{"csr": csrFor(l, rawacme.NewKey(), "a.example.com")}
		first := c.send(o.Finalize, csr).want(http.StatusOK).order().is(l, acmeserver.StatusValid)
		again := c.send(o.Finalize, csr).want(http.StatusOK).order()
		if again.Certificate != first.Certificate || again.URL != o.URL || len(l.ca.called()) != 1 {
			l.Errorf("%+v, then %+v after %d issuances", first, again, len(l.ca.called()))
		}
		c.finalize(o, rawacme.NewKey()).refused(acme.OrderNotReady, http.StatusForbidden)
	})
}

// While the issuer works, too: FortiGate polls by finalize.
func TestFinalizeAgainWhileProcessing(t *testing.T) {
	inLab(t, nil, func(l *lab) {
		l.ca.slow(90 * time.Second)
		c := l.account(l.start())
		o := c.newOrder("a.example.com")
		csr := rawacme.Fields{"csr": csrFor(l, rawacme.NewKey(), "a.example.com")}
		begin := time.Now()
		c.send(o.Finalize, csr).want(http.StatusOK).order().is(l, acmeserver.StatusProcessing)
		if took := time.Since(begin); took != 4*time.Second {
			l.Errorf("finalize took %s", took)
		}
		c.send(o.Finalize, csr).want(http.StatusOK).order().is(l, acmeserver.StatusProcessing)
		c.finalize(o, rawacme.NewKey()).refused(acme.OrderNotReady, http.StatusForbidden)
		l.wait(85 * time.Second)
		c.read(o).is(l, acmeserver.StatusProcessing)
		l.wait(time.Second)
		c.download(c.send(o.Finalize, csr).want(http.StatusOK).order().is(l, acmeserver.StatusValid))
		if n := len(l.ca.called()); n != 1 {
			l.Errorf("%d issuances", n)
		}
	})
}

// The client closes its connection while finalize waits.
func TestFinalizeOutlivesItsRequest(t *testing.T) {
	inLab(t, nil, func(l *lab) {
		l.ca.slow(10 * time.Second)
		c := l.account(l.start())
		o := c.newOrder("a.example.com")
		ctx, cancel := context.WithTimeout(l.Context(), time.Second)
		defer cancel()
		c.sendBy(ctx, rawacme.Fields{"kid": c.kid}, c.key, o.Finalize,
			rawacme.Fields{"csr": csrFor(l, rawacme.NewKey(), "a.example.com")})
		l.wait(9 * time.Second)
		c.read(o).is(l, acmeserver.StatusValid)
	})
}

func TestFinalizeTellsWhyTheIssuerRefused(t *testing.T) {
	inLab(t, nil, func(l *lab) {
		l.ca.does(func(context.Context, issueRequest) (issued, error) {
			return issued{}, &acme.Problem{
				Type: acme.RateLimit, Detail: "too many certificates",
				Subproblems: []acme.Subproblem{{Type: acme.RateLimit, Detail: "today", Identifier: dns("a.example.com")[0]}},
			}
		})
		c := l.account(l.start())
		o := c.newOrder("a.example.com")
		key := rawacme.NewKey()
		csr := rawacme.Fields{"csr": csrFor(l, key, "a.example.com")}
		r := c.send(o.Finalize, csr)
		if p := r.refused(acme.RateLimit, http.StatusForbidden); len(p.Subproblems) != 1 || r.Header().Get("Retry-After") != "" {
			l.Errorf("problem %+v, Retry-After %q", p, r.Header().Get("Retry-After"))
		}
		if got := c.read(o).is(l, acmeserver.StatusInvalid); got.Error.Type != acme.RateLimit || len(got.Error.Subproblems) != 1 {
			l.Errorf("order %+v", got)
		}
		c.send(o.Finalize, csr).refused(acme.RateLimit, http.StatusForbidden)
		c.finalize(o, rawacme.NewKey()).refused(acme.OrderNotReady, http.StatusForbidden)
	})
}

// A policy decides again at finalize.
type forgetful struct{ acmeserver.Trusting }

func (forgetful) Finalize(_ context.Context, r acmeserver.OrderRequest, csr *cert.CSR) error {
	if r.Identifiers[0].Value != "*.example.com" || csr.Names[0] != "*.example.com" || r.Account.ID == "" {
		return errors.New("another request")
	}
	return &acme.Problem{Type: acme.RejectedIdentifier, Detail: "no longer granted"}
}

func TestPolicyAtFinalize(t *testing.T) {
	inLab(t, func(c *acmeserver.Config) { c.Policy = forgetful{} }, func(l *lab) {
		c := l.account(l.start())
		o := c.newOrder("*.example.com")
		c.finalize(o, rawacme.NewKey()).refused(acme.RejectedIdentifier, http.StatusBadRequest)
		c.read(o).is(l, acmeserver.StatusReady)
		if n := len(l.ca.called()); n != 0 {
			l.Errorf("%d issuances", n)
		}
	})
}

func TestRefusedCSRs(t *testing.T) { // C15
	request := func(t testing.TB, key crypto.Signer, template *x509.CertificateRequest) string {
		t.Helper()
		der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
		if err != nil {
			t.Fatal(err)
		}
		return rawacme.B64(der)
	}
	inLab(t, nil, func(l *lab) {
		c := l.account(l.start())
		o := c.newOrder("a.example.com", "b.example.com")
		key := rawacme.NewKey()
		both := []string{"a.example.com", "b.example.com"}
		usage := func(oids ...byte) string { // extendedKeyUsage of 1.3.6.1.5.5.7.3.N
			var list []byte
			for _, n := range oids {
				list = append(list, 6, 8, 0x2b, 6, 1, 5, 5, 7, 3, n)
			}
			template := &x509.CertificateRequest{DNSNames: both}
			template.ExtraExtensions = append(template.ExtraExtensions, pkixExtension([]int{2, 5, 29, 37}, append([]byte{0x30, byte(len(list))}, list...)))
			return request(l, key, template)
		}
		der := csrFor(l, key, both...)
		for _, tt := range []struct{ name, csr, kind, says string }{
			{"empty", "", acme.Malformed, "base64url"},
			{"no base64url", "+/+/", acme.Malformed, "base64url"},
			{"too large", strings.Repeat("A", 90<<10), acme.Malformed, "larger"},
			{"PEM", rawacme.B64(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: []byte("x")})), acme.BadCSR, "not DER"},
			{"rest", der + "AAAA", acme.BadCSR, "PKCS#10"},
			{"a name is missing", csrFor(l, key, "a.example.com"), acme.BadCSR, "lacks b.example.com"},
			{"another name", csrFor(l, key, append(both, "c.example.com")...), acme.BadCSR, "has c.example.com"},
			{"other names", csrFor(l, key, "b.example.com", "c.example.com"), acme.BadCSR, "lacks a.example.com of the order, and has c.example.com"},
			{"an address", csrFor(l, key, append(both, "192.0.2.1")...), acme.BadCSR, "has 192.0.2.1"},
			{"the account's key", csrFor(l, c.key, both...), acme.BadCSR, "account's key"},
			{"for clients", usage(2), acme.BadCSR, "extendedKeyUsage"},
			{"e-mail", request(l, key, &x509.CertificateRequest{DNSNames: both, EmailAddresses: []string{"a@example.com"}}), acme.BadCSR, "e-mail"},
		} {
			p := c.send(o.Finalize, rawacme.Fields{"csr": tt.csr}).refused(tt.kind, http.StatusBadRequest)
			if !strings.Contains(p.Detail, tt.says) {
				l.Errorf("%s: detail %q, want %q", tt.name, p.Detail, tt.says)
			}
		}
		c.read(o).is(l, acmeserver.StatusReady)
		// acme.sh asks for clientAuth, too, and gets a certificate for servers, as from any CA.
		c.send(c.newOrder(both...).Finalize, rawacme.Fields{"csr": usage(1, 2)}).want(http.StatusOK)
		// Names are sets, and padding is harmless.
		c.send(o.Finalize, rawacme.Fields{"csr": csrFor(l, key, "B.example.com", "a.example.com", "A.example.com") + "="}).
			want(http.StatusOK).order().is(l, acmeserver.StatusValid)
	})
}

func TestAlternateChains(t *testing.T) {
	inLab(t, func(c *acmeserver.Config) { c.Sealer = xor{} }, func(l *lab) { // C13
		l.ca.does(func(_ context.Context, r issueRequest) (issued, error) {
			i := l.ca.sign(r.CSR.Public, r.CSR.Names...)
			foreign := l.ca.sign(rawacme.NewKey().Public(), r.CSR.Names...)
			another := l.ca.sign(r.CSR.Public, r.CSR.Names...)
			block, _ := pem.Decode(i.Chain)
			leaf := pem.EncodeToMemory(block)
			i.Alternates = [][]byte{[]byte("nonsense"), foreign.Chain, another.Chain, leaf}
			i.Chain = append([]byte("# a comment\r\n"), i.Chain...)
			return i, nil
		})
		c := l.account(l.start())
		o := c.finalize(c.newOrder("a.example.com"), rawacme.NewKey()).want(http.StatusOK).order()
		links := func(url string) (alternates []string) {
			r := c.send(url, nil).want(http.StatusOK)
			if !strings.HasPrefix(r.Body.String(), "-----BEGIN CERTIFICATE-----\n") || strings.Contains(r.Body.String(), "\r") {
				l.Errorf("chain %q", r.Body)
			}
			for _, link := range r.Header().Values("Link") {
				if target, ok := strings.CutSuffix(link, `>;rel="alternate"`); ok {
					alternates = append(alternates, target[1:])
				}
			}
			return alternates
		}
		got := links(o.Certificate)
		if len(got) != 1 || got[0] != o.Certificate+"/1" {
			l.Fatalf("alternate links %q", got)
		}
		if back := links(got[0]); len(back) != 1 || back[0] != o.Certificate {
			l.Errorf("alternate links of the alternate %q", back)
		}
		c.send(o.Certificate+"/2", nil).refused(acme.Malformed, http.StatusNotFound)
		stored, err := l.cfg.Storage.CertificateByID(l.Context(), o.Certificate[strings.LastIndex(o.Certificate, "/")+1:])
		if err != nil || len(stored.Chains) != 2 || strings.Contains(string(stored.Chains[0]), "CERTIFICATE") || !stored.Collected {
			l.Errorf("stored %+v, %v", stored, err)
		}
	})
}

// xor is a Sealer for tests.
type xor struct{}

func (xor) Seal(plain []byte) ([]byte, error) {
	sealed := make([]byte, len(plain))
	for i := range plain {
		sealed[i] = plain[i] ^ 0x55
	}
	return sealed, nil
}

func (x xor) Open(sealed []byte) ([]byte, error) { return x.Seal(sealed) }
