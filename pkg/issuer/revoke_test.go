package issuer_test

import (
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
)

// A certificate is downloaded again from its URL and revoked with the account's key.
// Repeating that is no error (RFC 8555, section 7.6).
func TestRevoke(t *testing.T) {
	t.Parallel()
	e := start(t, pebbletest.Options{}, nil)
	b, err := e.issuer.Issue(t.Context(), cert.Request{Names: names(t, "a.example.com"), KeyType: cert.EC256}, nil)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := e.issuer.Certificate(t.Context(), "", b.URL)
	if err != nil || !leaf.Equal(b.Leaf) {
		t.Fatalf("read again: %v", err)
	}
	before := e.ca.Requests().Total()
	for range 2 {
		if err := e.issuer.Revoke(t.Context(), "", leaf.Raw, cert.Superseded); err != nil {
			t.Fatal(err)
		}
	}
	if reason, revoked := e.ca.Revoked(leaf.SerialNumber); !revoked || reason != 4 {
		t.Errorf("revoked %v with reason %d", revoked, reason)
	}
	if n := e.ca.Requests().Total() - before; n != 2 {
		t.Errorf("%d requests for two revocations", n)
	}
}

// The error for a refusal has the CA's text and a kind.
func TestRevokeRefused(t *testing.T) {
	t.Parallel()
	var busy atomic.Bool
	e := start(t, pebbletest.Options{Wrap: func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if busy.Load() && pebbletest.Kind(r) == pebbletest.RevokeCert {
				w.Header().Set("Retry-After", "60")
				http.Error(w, "busy", http.StatusTooManyRequests)
				return
			}
			next.ServeHTTP(w, r)
		})
	}}, nil)
	b, err := e.issuer.Issue(t.Context(), cert.Request{Names: names(t, "a.example.com"), KeyType: cert.EC256}, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := func(err error, kind acme.Kind) *acme.Error {
		t.Helper()
		var failed *acme.Error
		if !errors.As(err, &failed) || failed.Kind != kind {
			t.Fatalf("%v, want %s", err, kind)
		}
		return failed
	}
	want(e.issuer.Revoke(t.Context(), "", b.Chain[0].Raw, cert.Unspecified), acme.Permanent) // the CA's own
	_, err = e.issuer.Certificate(t.Context(), "", b.URL+"0")
	want(err, acme.Permanent)
	busy.Store(true)
	if f := want(e.issuer.Revoke(t.Context(), "", b.Leaf.Raw, cert.Unspecified), acme.RateLimited); time.Until(f.RetryAt) < 30*time.Second {
		t.Errorf("again at %v", f.RetryAt)
	}
	if _, revoked := e.ca.Revoked(b.Leaf.SerialNumber); revoked {
		t.Error("revoked all the same")
	}
}
