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

// openPeers connects to other instances if they may share the database.
func (p *Proxy) openPeers(context.Context) (err error) {
	if p.cfg.Store == "" {
		return nil
	}
	cfg := peers.Config{
		Clients: p.offload,
		Bus:     p.store, Identity: p.identity, Self: p.name,
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

// pollInterval returns how often to query the database for changes by other
// instances, or 0 if the database is not shared. If notifications arrive, polling
// only finds changes whose notification was lost.
func (p *Proxy) pollInterval() time.Duration {
	switch {
	case p.peers == nil:
		return 0
	case p.peers.IsReceiving():
		return 15 * time.Second
	}
	return time.Second
}

// runPeers receives messages of other instances until stop. Work in flight may need
// their answers, so they are still received after ctx is done.
func (p *Proxy) runPeers(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	running.Go(func() { p.peers.Run(ctx) })
	return func() {
		cancel()
		running.Wait()
	}
}

// publishProbe makes port 80 of all instances answer a probe, because a name may
// resolve to any of them.
func (p *Proxy) publishProbe(ctx context.Context, name, token, body string) (remove func()) {
	probe := challenge.Challenge{Name: name, Token: token, KeyAuthorization: body}
	answer, err := p.publisher().Publish(ctx, acme.HTTP01, probe)
	if err != nil { // impossible: the publisher has a responder
		return func() {}
	}
	return answer.Remove
}

// instances returns the instances for the status.
func (p *Proxy) instances() *admin.Instances {
	heard := p.peers.Status()
	all := &admin.Instances{Self: p.name, Others: []admin.Instance{}, Problem: heard.Problem}
	for _, o := range heard.Others {
		all.Others = append(all.Others, admin.Instance{Name: o.Name, HeardAt: o.HeardAt.UTC(), Silent: o.Silent})
	}
	return all
}

// Answers returns the number of challenges that are answered from memory, including
// those of other instances.
func (p *Proxy) Answers() int { return p.responder.Len() + p.tls.alpn.Len() }

// instanceName returns a name that is unique among all instances that ever share a
// store.
func instanceName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	host = strings.Map(func(c rune) rune { // status prints it
		if c <= ' ' || c > '~' {
			return '_'
		}
		return c
	}, host)
	return fmt.Sprintf("%s/%d/%s", host, os.Getpid(), rand.Text()[:8])
}
