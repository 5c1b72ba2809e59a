package renewal_test

import (
	"context"
	"log/slog"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/renewal"
	"github.com/acmeproxy/acmeproxy/pkg/work"
)

func ExampleNewQueue() {
	run := func(ctx context.Context, cfg renewal.Config) {
		work.NewLoop(renewal.NewQueue(cfg), renewal.Workers, time.Now, slog.Default()).Run(ctx)
	}
	_ = run
}
