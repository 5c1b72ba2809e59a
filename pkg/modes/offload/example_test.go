package offload_test

import (
	"context"
	"fmt"

	"github.com/acmeproxy/acmeproxy/pkg/challenge"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/modes/offload"
)

func ExampleOffload_Present() {
	answer := func(ctx context.Context, o *offload.Offload, caller clients.Identity, name, token, text string) {
		a, err := o.Present(ctx, caller, challenge.ClientAnswer{Name: name, Token: token, KeyAuthorization: text})
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println("port 80 answers for", a.Name, "until", a.Until)
	}
	_ = answer
}
