package peers_test

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/acmeproxy/acmeproxy/pkg/peers"
)

func ExampleNew() {
	join := func(ctx context.Context, cfg peers.Config) {
		cfg.Self, cfg.Logger = "dmz1", slog.Default()
		p, err := peers.New(cfg)
		if err != nil {
			fmt.Println(err)
			return
		}
		p.Run(ctx)
	}
	_ = join
}
