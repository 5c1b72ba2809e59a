package acmeserver_test

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/acmeproxy/acmeproxy/internal/rawacme"
	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
)

// together sends requests at the same time and returns how many answers have a status.
func together(requests ...func() *response) map[int]int {
	answers := make([]*response, len(requests))
	var all sync.WaitGroup
	for i, request := range requests {
		all.Go(func() { answers[i] = request() })
	}
	all.Wait()
	count := map[int]int{}
	for _, r := range answers {
		count[r.status]++
	}
	return count
}

// C3, C7, C18: of requests that exclude each other, one succeeds, whichever instance
// serves them.
func TestConformRaces(t *testing.T) {
	conform(t, nil, func(t *testing.T, w *world) {
		const n = 6
		t.Run("one nonce", func(t *testing.T) {
			c := w.register(t)
			nonce := c.takeNonce()
			var requests []func() *response
			for range n {
				own := c.in(t)
				requests = append(requests, func() *response {
					return own.send(call{url: c.kid, header: fields{"nonce": nonce}})
				})
			}
			if got := together(requests...); got[http.StatusOK] != 1 || got[http.StatusBadRequest] != n-1 {
				t.Errorf("answers are %v", got)
			}
		})
		t.Run("several CSRs", func(t *testing.T) {
			o := w.register(t).order("a.example.com")
			before := w.ca.called()
			var requests []func() *response
			for range n {
				own := o.in(t)
				own.c.nonce, own.c.clock = own.c.takeNonce(), w.clock.Load()
				requests = append(requests, func() *response { return own.finalize(rawacme.NewKey()) })
			}
			if got := together(requests...); got[http.StatusOK] != 1 || got[http.StatusForbidden] != n-1 {
				t.Errorf("answers are %v", got)
			}
			o.await("valid")
			if calls := w.ca.called() - before; calls != 1 {
				t.Errorf("%d calls of the CA", calls)
			}
		})
		t.Run("one CSR", func(t *testing.T) {
			o := w.register(t).order("a.example.com")
			before := w.ca.called()
			csr := o.csr(rawacme.NewKey())
			var requests []func() *response
			for range n {
				own := o.in(t)
				requests = append(requests, func() *response { return own.finalizeWith(csr) })
			}
			if got := together(requests...); got[http.StatusOK] != n {
				t.Errorf("answers are %v", got)
			}
			o.await("valid")
			if calls := w.ca.called() - before; calls != 1 {
				t.Errorf("%d calls of the CA", calls)
			}
		})
		t.Run("one new key for several accounts", func(t *testing.T) {
			key := rawacme.NewKey()
			var requests []func() *response
			for range n {
				c := w.register(t)
				requests = append(requests, func() *response { return c.changeKey(key) })
			}
			if got := together(requests...); got[http.StatusOK] != 1 || got[http.StatusConflict] != n-1 {
				t.Errorf("answers are %v", got)
			}
		})
		t.Run("one revocation", func(t *testing.T) {
			c := w.register(t)
			chain, _ := c.download(c.order("a.example.com").issue(rawacme.NewKey()).Certificate)
			var requests []func() *response
			for range n {
				own := c.in(t)
				requests = append(requests, func() *response {
					return own.post(w.dir.RevokeCert, fields{"certificate": rawacme.B64(chain[0].Raw)})
				})
			}
			if got := together(requests...); got[http.StatusOK] < 1 || got[http.StatusOK]+got[http.StatusBadRequest] != n {
				t.Errorf("answers are %v", got)
			}
		})
		t.Run("one replacement", func(t *testing.T) {
			c := w.register(t)
			chain, _ := c.download(c.order("a.example.com").issue(rawacme.NewKey()).Certificate)
			var requests []func() *response
			for range n {
				own := c.in(t)
				requests = append(requests, func() *response {
					replaces := fields{"replaces": ariID(chain[0])}
					return own.post(w.dir.NewOrder, rawacme.Changed(orderOf("a.example.com"), replaces))
				})
			}
			if got := together(requests...); got[http.StatusCreated] != 1 || got[http.StatusConflict] != n-1 {
				t.Errorf("answers are %v", got)
			}
		})
	})
}

// strict is a policy that refuses at finalize until it changes its mind.
type strict struct {
	acmeserver.Trusting
	mu      sync.Mutex // guards refused
	refused bool
}

func (s *strict) refuse(refused bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused = refused
}

func (s *strict) Finalize(_ context.Context, r acmeserver.OrderRequest, csr *cert.CSR) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refused {
		return &acme.Problem{Type: acme.Unauthorized, Detail: "no grant covers " + strings.Join(csr.Names, ", ")}
	}
	return nil
}

// A grant may end between newOrder and finalize.
func TestConformPolicyAtFinalize(t *testing.T) {
	conform(t, func(c *acmeserver.Config) { c.Policy = &strict{refused: true} }, func(t *testing.T, w *world) {
		o := w.register(t).order("a.example.com")
		o.finalize(rawacme.NewKey()).refused(http.StatusForbidden, acme.Unauthorized, "no grant", "a.example.com")
		if o.again().Status != "ready" || w.ca.called() > 0 {
			t.Error("the order is not ready any more")
		}
		w.cfg.Policy.(*strict).refuse(false)
		o.issue(rawacme.NewKey())
	})
}

// C4: URLs come from the configuration, never from the request.
func TestConformHost(t *testing.T) {
	conform(t, nil, func(t *testing.T, w *world) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.url+"/directory", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = "evil.example.com"
		req.Header.Set("X-Forwarded-Host", "evil.example.com")
		req.Header.Set("X-Forwarded-Proto", "http")
		req.Header.Set("Forwarded", "host=evil.example.com;proto=http")
		r := w.do(t, req).want(http.StatusOK)
		if strings.Contains(string(r.body), "evil") || strings.Contains(r.header.Get("Link"), "evil") {
			t.Errorf("directory is %s, Link is %q", r.body, r.header["Link"])
		}
	})
}
