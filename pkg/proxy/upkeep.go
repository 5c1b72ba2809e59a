package proxy

import (
	"context"
	"sync"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/issuer"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/renewal"
	"github.com/acmeproxy/acmeproxy/pkg/store"
)

// upkeepEvery limits how long a time from a wrong clock has an effect, and how long an
// interrupted revocation waits. A check costs a few reads by index.
const upkeepEvery = 10 * time.Minute

// unparkRegularly corrects times that were stored under a wrong clock, until ctx is
// done.
func (p *Proxy) unparkRegularly(ctx context.Context) {
	t := time.NewTicker(upkeepEvery)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
		if err := p.unpark(ctx); err != nil && ctx.Err() == nil {
			p.log.Error("cannot look for times of a wrong clock", "error", err)
		}
	}
}

func (p *Proxy) unpark(ctx context.Context) error {
	n, err := p.store.Unpark(ctx)
	if n > 0 {
		p.log.Warn("stored times were years off: this host's clock or another instance's was wrong; they count as due now", "rows", n)
		if p.Renewals != nil {
			p.Renewals.Wake()
			p.Deployments.Wake()
		}
	}
	return err
}

// TryNow makes all failing certificates and deployments due, because a person may have
// removed the cause: at a start, and after settings were replaced. It does not wait for
// it. A crash loop is bounded by renewal.StartTries.
func (p *Proxy) TryNow(ctx context.Context) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopping.Err() != nil {
		return
	}
	p.background.Go(func() {
		ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		defer cancel()
		defer context.AfterFunc(p.stopping, cancel)()
		if err := p.tryNow(ctx); err != nil && p.stopping.Err() == nil {
			p.log.Warn("cannot end the delays of failing certificates; each is tried at its time", "error", err)
		}
	})
}

func (p *Proxy) tryNow(ctx context.Context) error {
	hooks, err := p.store.TryHooks(ctx)
	if hooks > 0 {
		p.Deployments.Wake()
	}
	if err != nil {
		return err
	}
	n, err := p.store.TryFailing(ctx, renewal.StartTries)
	if n > 0 {
		p.log.Info("failing certificates are tried now", "certificates", n)
		p.Renewals.Wake()
		p.peers.NotifyDue()
	}
	return err
}

// RenewNow makes one certificate of any client due, for the administrator. Errors are
// those of store.TryNow.
func (p *Proxy) RenewNow(ctx context.Context, id string) (managed.Certificate, error) {
	return p.tryOne(ctx, id, renewal.ByPerson)
}

func (p *Proxy) tryOne(ctx context.Context, id string, try managed.Try) (managed.Certificate, error) {
	m, err := p.store.TryNow(ctx, id, try)
	if err == nil {
		p.Renewals.Wake()
		p.peers.NotifyDue()
	}
	return m, err
}

// reporting wraps the pool and reports each success of the CA to issued.
type reporting struct {
	*issuer.Pool
	issued func(ctx context.Context, ca string)
}

// Issue implements renewal.Issuer and gateway.Issuer.
func (r reporting) Issue(ctx context.Context, req cert.Request, emit func(acme.Event)) (*cert.Bundle, error) {
	b, err := r.Pool.Issue(ctx, req, emit)
	if err == nil {
		r.issued(ctx, b.CA)
	}
	return b, err
}

// issued ends the delays of certificates that wait for the CA to recover. The caller,
// who uses the generation, does not wait for it.
func (g *generation) issued(ctx context.Context, ca string) {
	g.users.Add(1)
	go func() {
		defer g.users.Done()
		g.endDelays(ctx, ca)
	}()
}

func (g *generation) endDelays(ctx context.Context, ca string) {
	p := g.process
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	n, err := p.store.EndDelays(ctx, ca)
	if err != nil && p.stopping.Err() == nil {
		p.log.Warn("cannot end the delays of other certificates; each is tried at its time", "error", err)
	}
	if n > 0 {
		p.log.Info("the CA works again, so delayed certificates are tried now", "certificates", n)
		p.Renewals.Wake()
		p.peers.NotifyDue()
	}
}

// health checks whether the database can be read and written. Strangers may request
// it, so it writes at most once in probeEvery.
type health struct {
	store *store.Store
	now   func() time.Time

	probing sync.Mutex // held during a write; guards at and err
	at      time.Time
	err     error
}

const (
	probeEvery   = 5 * time.Second
	probeTimeout = 10 * time.Second
)

func (h *health) check(ctx context.Context) error {
	if err := h.store.Ping(ctx); err != nil {
		return err
	}
	h.probing.Lock()
	defer h.probing.Unlock()
	if age := h.now().Sub(h.at); age >= 0 && age < probeEvery {
		return h.err
	}
	// All callers get the result, so one that disconnects must not cancel the write.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), probeTimeout)
	defer cancel()
	h.err = h.store.ProbeWrite(ctx)
	h.at = h.now()
	return h.err
}
