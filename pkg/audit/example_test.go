package audit_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/acmeproxy/acmeproxy/pkg/audit"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/policy"
)

// authorize shows how a mode authorizes a request before it acts.
func authorize(ctx context.Context, log *audit.Log, id clients.Identity, names []string) error {
	return log.Authorize(ctx, audit.Ask{
		By: id, Action: audit.ActionRequest, Costs: true,
		Request: policy.Request{Mode: clients.ModeAgent, Names: names},
	})
}

func ExampleLog_Authorize() {
	serve := func(ctx context.Context, log *audit.Log, id clients.Identity) {
		var denied *policy.Denied
		if err := authorize(ctx, log, id, []string{"web1.example.com"}); errors.As(err, &denied) {
			fmt.Println(denied.Field, denied.Reason)
		}
	}
	_ = serve
}
