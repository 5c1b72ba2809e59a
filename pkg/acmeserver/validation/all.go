package validation

import (
	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
)

// All returns the validators of all three challenges, for Config.Validators.
func All(n Network) map[string]acmeserver.Validator {
	return map[string]acmeserver.Validator{
		acme.HTTP01: HTTP01{n}, acme.DNS01: DNS01{n}, acme.TLSALPN01: TLSALPN01{n},
	}
}
