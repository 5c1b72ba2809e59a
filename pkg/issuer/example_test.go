package issuer_test

import (
	"fmt"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/challenge"
	"github.com/acmeproxy/acmeproxy/pkg/issuer"
	"github.com/acmeproxy/acmeproxy/pkg/responder"
)

// A pool of one CA that proves control over names on port 80.
func ExampleNewPool() {
	port80 := challenge.FromMemory(acme.HTTP01, challenge.Memory{HTTP01: responder.New()})
	pool, err := issuer.NewPool(issuer.PoolConfig{CAs: []issuer.CAConfig{{
		DirectoryURL: "https://ca.example/directory",
		Accounts:     &memoryAccounts{}, // issuer.StoredAccounts in production
		Solvers:      map[string]challenge.Solver{acme.HTTP01: port80},
		AcceptTOS:    true,
	}}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer pool.Close()
	fmt.Println(pool.CheckNames(cert.Names{"www.example.com"}))
	fmt.Println(pool.CheckNames(cert.Names{"*.example.com"}) != nil)
	// Output:
	// <nil>
	// true
}
