package proxy

import (
	"context"
	"errors"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/modes/agent"
)

// revokeByAdmin revokes a certificate of a client or of this host. It is replaced at
// once if that is within the limits of renewals.
func (p *Proxy) revokeByAdmin(ctx context.Context, owner clients.Client, m managed.Certificate, reason cert.Reason, forget bool) (managed.Certificate, error) {
	g, release := p.use()
	defer release()
	r := agent.Revocation{Client: owner, Reason: reason, Forget: forget}
	if m.Mode == clients.ModeClient {
		var err error
		if r.Leaf, err = g.client.Leaf(ctx, m); err != nil {
			return m, err
		}
	}
	return g.agent.RevokeByAdmin(ctx, m, r)
}

// replaceableAt returns before which time no order may replace a certificate, or the
// zero time.
func (p *Proxy) replaceableAt(ctx context.Context, id string) (time.Time, error) {
	try := agent.Replacement()
	try.Check = true
	_, err := p.store.TryNow(ctx, id, try)
	var later *managed.NotNow
	switch {
	case errors.As(err, &later):
		return later.At, nil
	case errors.Is(err, managed.ErrNotFound): // superseded or deleted
		return time.Time{}, nil
	}
	return time.Time{}, err
}

// finishRevocationsRegularly carries out revocations that the administrator requested and
// that have no result yet, at the start and then regularly, until ctx is done.
func (p *Proxy) finishRevocationsRegularly(ctx context.Context) {
	t := time.NewTicker(upkeepEvery)
	defer t.Stop()
	for {
		if err := p.FinishRevocations(ctx); err != nil && ctx.Err() == nil {
			p.log.Error("a requested revocation is not finished", "error", err)
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
	}
}

// FinishRevocations carries out the stored revocations that are due. Run calls it; tests
// may call it, too.
func (p *Proxy) FinishRevocations(ctx context.Context) error {
	g, release := p.use()
	defer release()
	n, err := g.agent.FinishRevocations(ctx)
	if n > 0 {
		p.log.Info("requested revocations are finished", "certificates", n)
	}
	return err
}
