package proxy

import (
	"context"
	"errors"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/modes/agent"
	"github.com/acmeproxy/acmeproxy/pkg/renewal"
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
	m, err := g.agent.RevokeByAdmin(ctx, m, r)
	if err != nil || forget {
		return m, err
	}
	return p.replaceRevoked(ctx, m), nil
}

// replaceRevoked makes a row with a revoked certificate due now, if that is within the
// limits. Otherwise it is replaced at its time.
func (p *Proxy) replaceRevoked(ctx context.Context, m managed.Certificate) managed.Certificate {
	if now, err := p.tryOne(ctx, m.ID, replacement()); err == nil {
		return now
	}
	return m
}

// replacement returns the limits of orders that replace revoked certificates: one more
// than of renewals, because services use a revoked certificate.
func replacement() managed.Try {
	try := renewal.ByPerson
	try.Pause.Spare++
	return try
}

// replaceableAt returns before which time no order may replace a certificate, or the
// zero time.
func (p *Proxy) replaceableAt(ctx context.Context, id string) (time.Time, error) {
	try := replacement()
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
	revoked, err := g.agent.FinishRevocations(ctx)
	for _, m := range revoked {
		p.log.Info("a requested revocation is finished", "certificate", m.ID, "names", m.Names, "serial", m.Serial)
		p.replaceRevoked(ctx, m)
	}
	return err
}
