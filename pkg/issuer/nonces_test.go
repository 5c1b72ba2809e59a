package issuer_test

import (
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/pkg/acme"
)

// badNonce returns an override that answers some requests of a kind without a new
// nonce, so that the next one must be requested.
func badNonce(kind string, is func(*http.Request) bool) override {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
		return pebbletest.Kind(r) == kind && is(r) && respond(400, "badNonce")(w, r, next)
	}
}

// Nonces may be bad several times in a row, for any request. If they stay bad, that
// costs few requests, with and without a nonce in the answer.
func TestBadNoncesAreBounded(t *testing.T) {
	t.Parallel()
	var ts overrides
	e := start(t, pebbletest.Options{Wrap: ts.wrap}, nil)
	n := 0
	for kind, times := range map[string][]int32{
		pebbletest.NewAccount: {1000}, pebbletest.NewOrder: {1000}, pebbletest.Challenge: {5, 1000}, pebbletest.Finalize: {5, 1000},
	} {
		for _, bad := range times {
			n++
			agent, host := fmt.Sprintf("nonces-%d", n), fmt.Sprintf("n%d.nonces.example.com", n)
			t.Run(fmt.Sprintf("%s %d times", kind, bad), func(t *testing.T) {
				t.Parallel()
				var asked, heads atomic.Int32
				odd := badNonce(kind, func(*http.Request) bool { return asked.Add(1) <= bad })
				ts.set(agent, func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
					if pebbletest.Kind(r) == pebbletest.NewNonce {
						heads.Add(1)
					}
					return odd(w, r, next)
				})
				is := e.another(t, func(cfg *testConfig) { cfg.UserAgent, cfg.Accounts = agent, &memoryAccounts{} })
				_, err := is.Issue(t.Context(), ec(names(t, host)), nil)
				if bad == 5 {
					if err != nil {
						t.Error(err)
					}
					return
				}
				var failed *acme.Error
				if !errors.As(err, &failed) || failed.Kind != acme.Temporary || failed.Type != "urn:ietf:params:acme:error:badNonce" {
					t.Errorf("%v, want a temporary error", err)
				}
				if posts, heads := asked.Load(), heads.Load(); posts != 6 || heads > 10 {
					t.Errorf("%d requests and %d for a nonce, want 6 and at most 10", posts, heads)
				}
			})
		}
	}
}

// All nonces may be bad at once. If they stay bad, the total number of requests of
// one issuance is limited.
func TestBadNoncesOfOneIssuance(t *testing.T) {
	t.Parallel()
	var ts overrides
	e := start(t, pebbletest.Options{Wrap: ts.wrap}, nil)
	var hosts []string
	for i := range 20 {
		hosts = append(hosts, fmt.Sprintf("h%d.nonces.example.com", i))
	}
	issue := func(agent string) error {
		is := e.another(t, func(cfg *testConfig) { cfg.UserAgent, cfg.Accounts = agent, &memoryAccounts{} })
		_, err := is.Issue(t.Context(), ec(names(t, hosts...)), nil)
		return err
	}
	var mu sync.Mutex
	seen := map[string]bool{}
	ts.set("once", badNonce(pebbletest.Challenge, func(r *http.Request) bool {
		mu.Lock()
		defer mu.Unlock()
		before := seen[r.URL.Path]
		seen[r.URL.Path] = true
		return !before
	}))
	if err := issue("once"); err != nil || len(seen) != len(hosts) {
		t.Errorf("%v after %d bad nonces", err, len(seen))
	}
	var asked atomic.Int32
	ts.set("ever", badNonce(pebbletest.Challenge, func(*http.Request) bool { asked.Add(1); return true }))
	var failed *acme.Error
	if err := issue("ever"); !errors.As(err, &failed) || failed.Kind != acme.Temporary {
		t.Errorf("%v, want a temporary error", err)
	}
	if n := asked.Load(); n > 80 { // 32, half of those before, and one for each name
		t.Errorf("%d requests", n)
	}
}
