package issuer_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
)

// replaced records the field replaces of each newOrder.
type replaced struct {
	mu    sync.Mutex
	all   []string // guarded by mu
	fault pebbletest.Fault
}

func (r *replaced) wrap(next http.Handler) http.Handler {
	next = r.fault.Wrap(next)
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if pebbletest.Kind(req) == pebbletest.NewOrder {
			body, _ := io.ReadAll(req.Body) // a part is no JSON, which the test reports
			req.Body = io.NopCloser(strings.NewReader(string(body)))
			var outer struct{ Payload string }
			var order struct{ Replaces string }
			json.Unmarshal(body, &outer)
			payload, _ := base64.RawURLEncoding.DecodeString(outer.Payload)
			json.Unmarshal(payload, &order)
			r.mu.Lock()
			r.all = append(r.all, order.Replaces)
			r.mu.Unlock()
		}
		next.ServeHTTP(w, req)
	})
}

// take returns the records so far and forgets them.
func (r *replaced) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := r.all
	r.all = nil
	return all
}

// The CA's window is read without an account, and an order names the certificate that it
// replaces. If the CA refuses that, the order is placed once more without (X3, X24).
func TestReplaces(t *testing.T) {
	t.Parallel()
	var seen replaced
	e := start(t, pebbletest.Options{Wrap: seen.wrap}, nil)
	req := cert.Request{Names: names(t, "a.example.com"), KeyType: cert.EC256}
	first, err := e.issuer.Issue(t.Context(), req, nil)
	if err != nil {
		t.Fatal(err)
	}
	id, err := acme.CertID(first.Leaf)
	if err != nil {
		t.Fatal(err)
	}
	info, err := e.issuer.RenewalInfo(t.Context(), "", id)
	if err != nil || !info.Start.After(time.Now()) || !info.End.Before(first.NotAfter()) || info.RetryAfter <= 0 {
		t.Errorf("%+v, %v", info, err)
	}
	seen.take()
	req.Replaces = id
	for i, want := range [][]string{{id}, {id, ""}} { // the second is alreadyReplaced
		if _, err := e.issuer.Issue(t.Context(), req, nil); err != nil {
			t.Fatal(err)
		}
		if got := seen.take(); !slices.Equal(got, want) {
			t.Errorf("order %d replaces %q, want %q", i, got, want)
		}
	}
	for _, status := range []int{http.StatusForbidden, http.StatusNotFound, http.StatusBadRequest, http.StatusConflict} {
		refused := false
		seen.fault.Set(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			if pebbletest.Kind(r) == pebbletest.NewOrder && !refused {
				refused = true
				w.Header().Set("Content-Type", "application/problem+json")
				w.WriteHeader(status)
				io.WriteString(w, `{"type":"urn:ietf:params:acme:error:malformed","detail":"no"}`)
				return
			}
			next.ServeHTTP(w, r)
		})
		if _, err := e.issuer.Issue(t.Context(), req, nil); err != nil {
			t.Errorf("%d: %v", status, err)
		}
	}
	_, err = e.issuer.RenewalInfo(t.Context(), "", "AAAA.AAAA")
	var failed *acme.Error
	if !errors.As(err, &failed) {
		t.Errorf("an unknown certificate: %v", err)
	}
}

// The metadata costs no account.
func TestMeta(t *testing.T) {
	t.Parallel()
	e := start(t, pebbletest.Options{Profiles: map[string]time.Duration{"short": time.Hour}}, nil)
	meta, err := e.issuer.Meta(t.Context())
	if _, ok := meta.Profiles["short"]; err != nil || !ok {
		t.Errorf("%+v, %v", meta, err)
	}
	if n := e.ca.Requests().Count(pebbletest.NewAccount); n != 0 {
		t.Errorf("%d accounts", n)
	}
}
