package client_test

import (
	"context"
	"fmt"

	"github.com/acmeproxy/acmeproxy/pkg/modes/client"
)

func ExampleNew() {
	start := func(ctx context.Context, cfg client.Config) {
		c, err := client.New(cfg)
		if err == nil {
			err = c.Start(ctx)
		}
		fmt.Println(err)
	}
	_ = start
}
