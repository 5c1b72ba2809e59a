package relay

import (
	"context"

	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
	"github.com/acmeproxy/acmeproxy/pkg/trail"
)

// Superseded implements acmeserver.Superseder. The CA has no order for the client's, so it
// does not count against the quota. Otherwise a program that creates a key at each attempt
// would use the quota up during an outage of the CA.
func (r *Relay) Superseded(ctx context.Context, o acmeserver.Order) {
	ask, ok := r.counted.forget(o.ID)
	if !ok {
		return // it never had its turn, or on another instance
	}
	if err := r.cfg.Audit.ReturnQuota(ctx, ask); err != nil {
		r.cfg.Logger.Error("a request that came to no order counts against its quota", "error", err)
	}
	r.record(ctx, ask.By, ask.Request.Names, trail.Failed, "superseded by a newer order with another key before the CA received it")
}
