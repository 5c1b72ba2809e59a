package trail_test

import (
	"fmt"

	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/trail"
)

func ExampleBy() {
	e := trail.By(clients.Identity{Client: clients.Client{Name: "web1"}}, "request")
	e.Names, e.Outcome = []string{"web1.example.com"}, trail.Allowed
	fmt.Println(e.ClientName, e.Action, e.Names, e.Outcome)
	// Output: web1 request [web1.example.com] allowed
}
