package proxy

import (
	"context"

	"github.com/acmeproxy/acmeproxy/pkg/challenge"
	"github.com/acmeproxy/acmeproxy/pkg/modes/offload"
)

// openOffload creates the answers of clients with CA accounts of their own. They belong
// to the process, so a reload keeps them.
func (p *Proxy) openOffload(context.Context) error {
	p.offload = offload.New(offload.Config{
		Audit: p.audit, Store: p.store, Answers: p.responder, Share: p.shareClient,
		Elsewhere: p.elsewhere, OwnNames: p.ownNames, Logger: p.log, Now: p.cfg.Now,
	})
	p.onClose(p.offload.Close)
	return nil
}

// shareClient makes all other instances serve a client's answer.
func (p *Proxy) shareClient(ctx context.Context, a challenge.ClientAnswer, ended func()) (withdraw func()) {
	return p.peers.ShareClient(ctx, a, ended)
}

// elsewhere returns why this instance does not answer on port 80 itself, or an empty
// string.
func (p *Proxy) elsewhere() string {
	g, release := p.use()
	defer release()
	return g.elsewhere()
}

// clientsChanged ends the answers that clients may not have any more, at all instances.
func (p *Proxy) clientsChanged(ctx context.Context) {
	p.peers.NotifyClients()
	if err := p.offload.Recheck(context.WithoutCancel(ctx)); err != nil {
		p.log.Warn("cannot check whether clients may still have their answers to challenges; checking again soon", "error", err)
	}
}
