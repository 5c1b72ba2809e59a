package acme_test

import (
	"testing"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
)

// X13: a failure that a check of DNS and port 80 explains is recognized, also in the
// text that is stored.
func TestIsValidation(t *testing.T) {
	const namespace = "urn:ietf:params:acme:error:"
	for name, c := range map[string]struct {
		err  acme.Error
		want bool
	}{
		"connection":      {acme.Error{Type: namespace + "connection", Identifier: "a.example.com"}, true},
		"dns":             {acme.Error{Type: namespace + "dns", Detail: "no such name"}, true},
		"CAA":             {acme.Error{Type: namespace + "caa"}, true},
		"unauthorized":    {acme.Error{Type: namespace + "unauthorized", Identifier: "a.example.com"}, true},
		"of the account":  {acme.Error{Type: namespace + "unauthorized", Op: "newOrder"}, false},
		"rate limit":      {acme.Error{Type: acme.RateLimit}, false},
		"our own failure": {acme.Error{Detail: "dial tcp: refused"}, false},
		"a subproblem": {acme.Error{Type: namespace + "compound", Subproblems: []acme.Subproblem{
			{Type: namespace + "caa", Identifier: acme.Identifier{Type: acme.TypeDNS, Value: "a.example.com"}},
		}}, true},
	} {
		if got := c.err.IsValidation(); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
		if name == "a subproblem" || name == "of the account" {
			continue // the text does not have the type, or not the place
		}
		if got := acme.IsValidationText("the proxy has no certificate yet: " + c.err.Error()); got != c.want {
			t.Errorf("%s: the text %q: %v, want %v", name, c.err.Error(), got, c.want)
		}
	}
}
