package dnsupdate_test

import (
	"fmt"

	"github.com/acmeproxy/acmeproxy/pkg/dnsupdate"
)

func ExampleNew() {
	servers, err := dnsupdate.ParseServers("ns1.example.com")
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = dnsupdate.New(dnsupdate.Config{Servers: servers, TTL: 60})
	fmt.Println(servers, err)
	// Output: [ns1.example.com:53] <nil>
}
