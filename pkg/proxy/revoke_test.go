package proxy_test

import (
	"io"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/internal/watch"
	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/frontend/admin"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
	"github.com/acmeproxy/acmeproxy/pkg/store"
)

// If the CA's answer to a revocation is lost, upkeep repeats the request, which succeeds
// if the certificate is revoked already. Then it is recorded, audited and replaced (X7).
func TestRevocationAnswerLost(t *testing.T) {
	t.Parallel()
	var clk proxytest.Clock
	var ca pebbletest.Fault
	p := proxytest.Start(t, proxytest.Options{Change: clk.On(), Pebble: pebbletest.Options{Wrap: ca.Wrap}})
	_, m, b := p.Managed(t, "web1", "a.example.com")
	ca.Set(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if pebbletest.Kind(r) == pebbletest.RevokeCert {
			next.ServeHTTP(&nowhere{w}, r)
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		next.ServeHTTP(w, r)
	})
	_, err := p.Admin.RevokeCertificate(t.Context(), m.ID, admin.RevokeCertificate{Reason: "superseded"})
	proxytest.WantStatus(t, "the answer is lost", err, http.StatusServiceUnavailable)
	p.WantRevoked(t, b, true, cert.Superseded)
	before := p.CA.Requests().Count(pebbletest.RevokeCert)
	if err := p.FinishRevocations(t.Context()); err != nil || p.CA.Requests().Count(pebbletest.RevokeCert) != before {
		t.Errorf("it is repeated at once: %v", err)
	}
	ca.PassAll()
	clk.Advance(11 * time.Minute)
	finishRevocations(t, p, m.ID, b.Serial())
	after := p.CA.Requests().Count(pebbletest.RevokeCert)
	clk.Advance(25 * time.Hour)
	if err := p.FinishRevocations(t.Context()); err != nil || p.CA.Requests().Count(pebbletest.RevokeCert) != after {
		t.Errorf("it is repeated after its result: %v", err)
	}
}

// finishRevocations expects that the stored revocation of a client's certificate ends.
func finishRevocations(t *testing.T, p *proxytest.Proxy, id, serial string) {
	t.Helper()
	if err := p.FinishRevocations(t.Context()); err != nil {
		t.Fatal(err)
	}
	watch.Until(t, "the certificate is replaced", func() bool {
		d, err := p.Admin.Certificate(t.Context(), id)
		return err == nil && d.Serial != serial && d.RevokedAt.IsZero()
	})
	if n := p.Audited(t, "web1", "revoke", "done"); n != 1 {
		t.Errorf("%d audited revocations, want 1", n)
	}
}

// nowhere swallows an answer.
type nowhere struct{ http.ResponseWriter }

func (nowhere) Header() http.Header            { return http.Header{} }
func (nowhere) Write(data []byte) (int, error) { return len(data), nil }
func (nowhere) WriteHeader(int)                {}

// A start finishes a revocation that a killed process had stored. A damaged one of a
// deleted row does not prevent that (X7).
func TestStartFinishesRevocations(t *testing.T) {
	t.Parallel()
	p := proxytest.Start(t, proxytest.Options{})
	c, m, b := p.Managed(t, "web1", "a.example.com")
	other := c.Register(t, "b.example.com")
	c.Bundle(t, other.ID, "")
	if r := c.Do(t, http.MethodDelete, api.PathCertificates+"/"+other.ID, nil); r.Status != http.StatusNoContent {
		t.Fatal(r.Status)
	}
	p.Stop(t)
	s, err := store.Open(t.Context(), store.Config{Path: filepath.Join(p.DataDir, "acmeproxy.db")})
	if err != nil {
		t.Fatal(err)
	}
	row, err := s.ManagedByID(t.Context(), m.ID)
	if err != nil {
		t.Fatal(err)
	}
	want := managed.WantedRevocation{
		ManagedID: m.ID, Serial: b.Serial(), ClientID: row.ClientID, CA: row.CA, Leaf: b.Leaf.Raw, Reason: "superseded",
	}
	gone := want
	gone.ManagedID, gone.Serial, gone.Leaf = other.ID, "ff", []byte("not a certificate")
	for _, w := range []managed.WantedRevocation{gone, want} {
		if err := s.WantRevocation(t.Context(), w); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.RevokeManaged(t.Context(), m.ID, b.Serial(), time.Now().Add(time.Hour), nil); err != nil { // killed before the replacement
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	p.Restart(t)
	watch.Until(t, "the certificate is replaced", func() bool {
		d, err := p.Admin.Certificate(t.Context(), m.ID)
		return err == nil && d.Serial != b.Serial() && d.RevokedAt.IsZero()
	})
	p.WantRevoked(t, b, true, cert.Superseded)
	watch.Until(t, "it is audited", func() bool { return p.Audited(t, "web1", "revoke", "done") == 1 })
}

// A revocation that the CA refuses is not repeated.
func TestRevocationRefused(t *testing.T) {
	t.Parallel()
	var clk proxytest.Clock
	var ca pebbletest.Fault
	p := proxytest.Start(t, proxytest.Options{Change: clk.On(), Pebble: pebbletest.Options{Wrap: ca.Wrap}})
	_, m, b := p.Managed(t, "web1", "a.example.com")
	ca.Set(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if pebbletest.Kind(r) != pebbletest.RevokeCert {
			next.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusForbidden)
		io.WriteString(w, `{"type": "urn:ietf:params:acme:error:unauthorized", "detail": "no"}`)
	})
	_, err := p.Admin.RevokeCertificate(t.Context(), m.ID, admin.RevokeCertificate{Forget: true})
	proxytest.WantStatus(t, "the CA refuses", err, http.StatusConflict)
	ca.PassAll()
	clk.Advance(25 * time.Hour)
	if err := p.FinishRevocations(t.Context()); err != nil {
		t.Error(err)
	}
	p.WantRevoked(t, b, false, "")
}
