package issuer_test

import (
	"crypto/x509"
	"net/http"
	"slices"
	"testing"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
)

// A request that asks for alternate chains gets all others of the CA, whichever is the
// first. One that fails does not fail the order. No other request fetches them.
func TestAlternateChains(t *testing.T) { // C17, X1
	t.Parallel()
	var ts overrides
	e := start(t, pebbletest.Options{AlternateRoots: 2, Wrap: ts.wrap}, nil)
	roots := func(b *cert.Bundle) (all []string) {
		for _, chain := range append([][]*x509.Certificate{b.Chain}, b.Alternates...) {
			all = append(all, chain[len(chain)-1].Issuer.CommonName)
		}
		slices.Sort(all[1:])
		return all
	}
	issue := func(agent, prefer string, alternates bool) *cert.Bundle {
		t.Helper()
		is := e.another(t, func(cfg *testConfig) {
			cfg.UserAgent, cfg.PreferredChain, cfg.Accounts = agent, prefer, &memoryAccounts{}
		})
		req := ec(names(t, "chain.example.com"))
		req.Alternates = alternates
		b, err := is.Issue(t.Context(), req, nil)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(b.AlternatesPEM()); n != len(b.Alternates) {
			t.Errorf("%d texts of %d alternates", n, len(b.Alternates))
		}
		for _, text := range b.AlternatesPEM() {
			other, err := cert.ParseBundle(text)
			if err != nil || !other.Leaf.Equal(b.Leaf) {
				t.Errorf("alternate: %v", err)
			}
		}
		return b
	}
	all := slices.Clone(e.ca.Issuers)
	if got := roots(issue("", "", true)); !slices.Equal(got, append([]string{all[0]}, sorted(all[1], all[2])...)) {
		t.Errorf("chains %q", got)
	}
	if got := roots(issue("", all[2], true)); !slices.Equal(got, append([]string{all[2]}, sorted(all[0], all[1])...)) {
		t.Errorf("chains %q with a preferred one", got)
	}
	e.ca.Requests().Reset()
	if b := issue("", "", false); b.Alternates != nil || e.ca.Requests().Count(pebbletest.Certificate) != 1 {
		t.Errorf("%d alternates, %d requests", len(b.Alternates), e.ca.Requests().Count(pebbletest.Certificate))
	}
	reads := 0
	ts.set("broken", times(100, pebbletest.Certificate, func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
		if reads++; reads != 2 {
			return false
		}
		http.Error(w, "no", http.StatusServiceUnavailable)
		return true
	}))
	if b := issue("broken", "", true); len(b.Alternates) != 1 || reads != 3 {
		t.Errorf("%d alternates after %d requests", len(b.Alternates), reads)
	}
}

func sorted(texts ...string) []string { slices.Sort(texts); return texts }
