package preflight_test

import (
	"context"
	"fmt"

	"github.com/acmeproxy/acmeproxy/pkg/preflight"
)

func ExampleChecker_Run() {
	check := func(ctx context.Context, cfg preflight.Config) {
		c, err := preflight.New(cfg)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(c.Run(ctx, []string{"web1.example.com"}))
	}
	_ = check
}
