package jws_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/acmeproxy/acmeproxy/internal/rawacme"
	"github.com/acmeproxy/acmeproxy/pkg/acme"
)

const url = "https://ca.example.com/acme/new-account"

type fields = rawacme.Fields

var (
	b64     = rawacme.B64
	marshal = rawacme.JSON
	keys    = rawacme.Keys
	jwk     = rawacme.JWK
	sign    = rawacme.Sign
	changed = rawacme.Changed
)

// signed returns a JWS that is correct apart from the changes to its header. A change
// to nil removes the member.
func signed(alg string, changes fields) fields {
	key := keys()[alg]
	h := fields{"alg": alg, "jwk": jwk(key.Public()), "nonce": "bm9uY2U", "url": url}
	return sign(alg, key, changed(h, changes), `{"contact":[]}`)
}

// wantProblem checks the type and the words of a problem.
func wantProblem(t *testing.T, err error, problemType string, words ...string) *acme.Problem {
	t.Helper()
	var p *acme.Problem
	if !errors.As(err, &p) || p.Type != problemType || p.Status < 400 {
		t.Fatalf("got %v, want a problem of the type %s", err, problemType)
	}
	for _, w := range words {
		if !strings.Contains(p.Detail, w) {
			t.Errorf("detail %q does not mention %q", p.Detail, w)
		}
	}
	return p
}
