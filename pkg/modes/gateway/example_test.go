package gateway_test

import (
	"context"
	"fmt"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/modes/gateway"
)

func ExampleGateway_Begin() {
	pass := func(ctx context.Context, g *gateway.Gateway, id clients.Identity, req cert.Request, again gateway.Again) {
		issue, err := g.Begin(ctx, id, req)
		if err != nil {
			fmt.Println(err)
			return
		}
		bundle, _, err := issue(ctx, func(e acme.Event) { fmt.Println(e.Stage) }, again)
		fmt.Println(bundle, err)
	}
	_ = pass
}
