package proxy_test

import (
	"context"
	"fmt"

	"github.com/acmeproxy/acmeproxy/pkg/proxy"
)

func ExampleNew() {
	serve := func(ctx context.Context, cfg proxy.Config) {
		p, err := proxy.New(ctx, cfg)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(p.Run(ctx))
	}
	_ = serve
}
