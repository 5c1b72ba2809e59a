package acmems_test

import (
	"fmt"
	"net/netip"

	"github.com/acmeproxy/acmeproxy/pkg/acmems"
)

func ExampleParse() {
	cfg, err := acmems.Parse([]byte(`
[account]
dir = /etc/acmems/account
[auth "web"]
ip = 192.0.2.0/24
domain = *.example.org
`))
	if err != nil {
		fmt.Println(err)
		return
	}
	by := acmems.Caller{Addr: netip.MustParseAddr("192.0.2.7")}
	possible, err := cfg.Possible(by)
	if err != nil {
		fmt.Println(err)
		return
	}
	accepted, err := by.Accepted(possible, []byte("a CSR"))
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = acmems.Choose(accepted, []string{"www.example.org", "www.example.com"})
	fmt.Println(err)
	block, err := acmems.Choose(accepted, []string{"www.example.org"})
	fmt.Println(block.Name, err)
	// Output:
	// names that are not allowed by [auth "web"]
	// web <nil>
}
