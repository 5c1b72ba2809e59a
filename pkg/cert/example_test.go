package cert_test

import (
	"fmt"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
)

func ExampleParseNames() {
	names, err := cert.ParseNames("Web1.Example.com", "192.0.2.1", "web1.example.com")
	fmt.Println(names, err)
	// Output: 192.0.2.1 web1.example.com <nil>
}
