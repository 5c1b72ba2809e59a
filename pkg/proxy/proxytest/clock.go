package proxytest

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/proxy"
)

// Clock runs as fast as the real one, and some time ahead of it. The zero value
// shows the real time. It may be used concurrently.
type Clock struct{ ahead atomic.Int64 }

// Now returns the clock's time.
func (c *Clock) Now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

// Advance moves the clock, backward if d is negative.
func (c *Clock) Advance(d time.Duration) { c.ahead.Add(int64(d)) }

// Noon moves the clock to the middle of a UTC day, far from a quota's end.
func (c *Clock) Noon() {
	now := time.Now().UTC()
	c.Advance(now.Truncate(24 * time.Hour).Add(36 * time.Hour).Sub(now))
}

// On returns the change that gives a proxy this clock, after other changes.
func (c *Clock) On(changes ...func(*proxy.Config)) func(*proxy.Config) {
	return func(cfg *proxy.Config) {
		cfg.Now = c.Now
		for _, change := range changes {
			change(cfg)
		}
	}
}

// Tick does the work that is due now, unless Run has already done it.
func (p *Proxy) Tick(t testing.TB) {
	t.Helper()
	for _, loop := range []interface{ Wake() }{p.Renewals, p.Deployments} {
		loop.Wake()
	}
	if err := p.Renewals.Tick(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := p.Deployments.Tick(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// Hurry makes the clock run 20 times as fast until stop, so that the proxy's pauses
// are short. Long attempts would lose their leases.
func (p *Proxy) Hurry(c *Clock) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				c.Advance(2 * time.Second)
				p.Renewals.Wake()
			}
		}
	})
	return func() {
		cancel()
		done.Wait()
	}
}
