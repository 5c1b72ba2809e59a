package dns01_test

import (
	"fmt"

	"github.com/acmeproxy/acmeproxy/pkg/challenge/dns01"
)

// The environment sets a provider up.
func ExampleNew() {
	environment := map[string]string{"DNSUPDATE_NAMESERVER": "192.0.2.53"}
	solver, err := dns01.New(dns01.Config{
		Provider:  "rfc2136",
		Getenv:    func(name string) string { return environment[name] },
		Resolvers: []string{"192.0.2.53:53"},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(solver.Close())
	// Output: <nil>
}
