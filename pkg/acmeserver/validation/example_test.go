package validation_test

import (
	"fmt"
	"net/netip"

	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver/validation"
)

// A server for a private network validates names there with its own resolver.
func ExampleAll() {
	network := validation.Network{
		Resolvers: []string{"10.0.0.53:53"},
		Allow:     []netip.Prefix{netip.MustParsePrefix("10.0.0.0/16")},
	}
	cfg := acmeserver.Config{URL: "https://ca.example.com/acme", Validators: validation.All(network)}
	fmt.Println(len(cfg.Validators), "challenges")
	// Output: 3 challenges
}
