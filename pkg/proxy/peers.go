package proxy

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/challenge"
	"github.com/acmeproxy/acmeproxy/pkg/config"
	"github.com/acmeproxy/acmeproxy/pkg/frontend/admin"
	"github.com/acmeproxy/acmeproxy/pkg/modes/agent"
	"github.com/acmeproxy/acmeproxy/pkg/peers"
)

// openPeers is for a database that other instances may be on.
func (p *Proxy) openPeers(context.Context) (err error) {
	if p.cfg.Store == "" {
		return nil
	}
	cfg := peers.Config{
		Bus: p.store, Identity: p.identity, Self: p.name,
		Due:    func() { p.Renewals.Wake() },
		News:   func(certID string) { p.tell(certID, (*agent.Agent).News) },
		Logger: p.log,
	}
	served := challenge.Memory{TLSALPN: p.tls.alpn}
	if p.cfg.HTTPAddr != config.None {
		served.HTTP01 = p.responder
	}
	cfg.Local = served
	p.peers, err = peers.New(cfg)
	return err
}

// lookEvery is how often to look for what other instances did; 0: there are
// none. Where we hear of it anyway, that is for what was lost on the way.
func (p *Proxy) lookEvery() time.Duration {
	switch {
	case p.peers == nil:
		return 0
	case p.peers.Hears():
		return 15 * time.Second
	}
	return time.Second
}

// runPeers has the other instances heard, until all that is in flight is done:
// it may need their answers.
func (p *Proxy) runPeers(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	running.Go(func() { p.peers.Run(ctx) })
	return func() {
		cancel()
		running.Wait()
	}
}

// publishProbe has port 80 answer a probe, on all instances: one name may lead
// to each of them.
func (p *Proxy) publishProbe(ctx context.Context, name, token, body string) (remove func()) {
	probe := challenge.Challenge{Name: name, Token: token, KeyAuthorization: body}
	answer, err := p.publisher().Publish(ctx, acme.HTTP01, probe)
	if err != nil { // impossible: the publisher has a responder
		return func() {}
	}
	return answer.Remove
}

// instances is for the status.
func (p *Proxy) instances() *admin.Instances {
	heard := p.peers.Status()
	all := &admin.Instances{Self: p.name, Others: []admin.Instance{}, Trouble: heard.Trouble}
	for _, o := range heard.Others {
		all.Others = append(all.Others, admin.Instance{Name: o.Name, HeardAt: o.HeardAt.UTC(), Silent: o.Silent})
	}
	return all
}

// Answers is how many challenges are being answered from memory, other
// instances' included.
func (p *Proxy) Answers() int { return p.responder.Len() + p.tls.alpn.Len() }

// instanceName is unique among all instances that ever share a store.
func instanceName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	host = strings.Map(func(c rune) rune { // it is shown to people
		if c <= ' ' || c > '~' {
			return '_'
		}
		return c
	}, host)
	return fmt.Sprintf("%s/%d/%s", host, os.Getpid(), rand.Text()[:8])
}
