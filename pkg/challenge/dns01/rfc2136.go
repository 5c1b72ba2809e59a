package dns01

import (
	"context"
	"fmt"
	"strconv"
	"sync"

	"github.com/go-acme/lego/v4/challenge/dns01"

	"github.com/acmeproxy/acmeproxy/pkg/challenge"
	"github.com/acmeproxy/acmeproxy/pkg/dnsupdate"
)

// rfc2136 publishes by dynamic updates of the administrator's name server. It adds and
// deletes single values, so a wildcard and its base can be validated at the same time.
type rfc2136 struct {
	setup
	client *dnsupdate.Client
	mu     sync.Mutex
	at     map[challenge.Challenge]string // the name that each value was added to; guarded by mu
}

func openRFC2136(from setup) (publisher, error) {
	settings, err := dnsupdate.FromEnvironment(from.getenv)
	if err != nil {
		return publisher{}, fmt.Errorf("rfc2136: %w", err)
	}
	client, err := dnsupdate.New(settings.Config)
	if err != nil {
		return publisher{}, fmt.Errorf("rfc2136: %w", err)
	}
	r := &rfc2136{client: client, setup: from, at: map[challenge.Challenge]string{}}
	p := publisher{
		publish: r.publish, withdraw: r.withdraw,
		timeout: dns01.DefaultPropagationTimeout, interval: dns01.DefaultPollingInterval,
	}
	if settings.PropagationTimeout > 0 {
		p.timeout = settings.PropagationTimeout
	}
	if settings.PollingInterval > 0 {
		p.interval = settings.PollingInterval
	}
	return p, nil
}

func (r *rfc2136) publish(ctx context.Context, c challenge.Challenge) error {
	name, err := r.place(ctx, c)
	if err != nil {
		return err
	}
	r.mu.Lock()
	r.at[c] = name
	r.mu.Unlock()
	return r.client.Add(ctx, name, dnsValue(c))
}

// withdraw deletes the value from the name that publish used. CNAMEs may have changed
// since.
func (r *rfc2136) withdraw(ctx context.Context, c challenge.Challenge) error {
	r.mu.Lock()
	name, ok := r.at[c]
	delete(r.at, c)
	r.mu.Unlock()
	if !ok {
		return nil // no server was asked
	}
	return r.client.Delete(ctx, name, dnsValue(c))
}

// place returns the name for the record: it follows CNAMEs, unless lego's variable
// disables that. If propagation is not checked, the name itself is used when its CNAMEs
// cannot be read.
func (r *rfc2136) place(ctx context.Context, c challenge.Challenge) (string, error) {
	name := txtName(c)
	if off, err := strconv.ParseBool(r.getenv("LEGO_DISABLE_CNAME_SUPPORT")); err == nil && off {
		return name, nil
	}
	followed, err := r.check.follow(ctx, name)
	if err != nil && r.check.mode == None && ctx.Err() == nil {
		return name, nil
	}
	return followed, err
}
