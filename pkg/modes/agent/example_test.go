package agent_test

import (
	"context"
	"fmt"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/modes/agent"
)

func ExampleAgent_Register() {
	register := func(ctx context.Context, a *agent.Agent, id clients.Identity, names cert.Names) {
		m, created, err := a.Register(ctx, id, cert.Request{Names: names, KeyType: cert.EC256})
		fmt.Println(m.ID, created, err)
	}
	_ = register
}
