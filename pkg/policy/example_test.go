package policy_test

import (
	"fmt"

	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/policy"
)

func ExampleDecide() {
	web1 := clients.Identity{Client: clients.Client{Name: "web1", Grants: []clients.Grant{
		{Names: []string{"*.web1.example.com"}, Modes: []clients.Mode{clients.ModeAgent}, DailyQuota: 10},
	}}}
	for _, name := range []string{"www.web1.example.com", "web2.example.com"} {
		d, err := policy.Decide(web1, policy.Request{Mode: clients.ModeAgent, Names: []string{name}})
		fmt.Println(d.Quota, err)
	}
	// Output:
	// 10 <nil>
	// 0 names: web2.example.com is not granted to client "web1"; ask the proxy's administrator to add it
}
