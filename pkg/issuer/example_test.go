package issuer_test

import (
	"context"
	"fmt"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/issuer"
)

func ExampleNew() {
	obtain := func(ctx context.Context, cfg issuer.Config, names cert.Names) {
		ca, err := issuer.New(cfg)
		if err != nil {
			fmt.Println(err)
			return
		}
		bundle, err := ca.Issue(ctx, cert.Request{Names: names, KeyType: cert.EC256}, func(e acme.Event) { fmt.Println(e.Stage) })
		fmt.Println(bundle, err)
	}
	_ = obtain
}
