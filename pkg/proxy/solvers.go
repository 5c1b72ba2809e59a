package proxy

import (
	"context"
	"fmt"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/challenge"
	"github.com/acmeproxy/acmeproxy/pkg/challenge/dns01"
	"github.com/acmeproxy/acmeproxy/pkg/config"
)

// openSolvers opens one solver for each type of challenge: the first one of the
// table that is configured.
func (p *Proxy) openSolvers(context.Context) error {
	p.solvers = map[string]challenge.Solver{}
	for _, row := range []struct {
		challengeType string
		configured    bool
		open          func() (challenge.Solver, error)
	}{
		{acme.HTTP01, p.cfg.HTTP01Hook != "", p.openHook},
		{acme.HTTP01, p.cfg.HTTP01Webroot != "", p.openWebroot},
		{acme.HTTP01, p.cfg.HTTPAddr != config.None, p.openPort80},
		{acme.TLSALPN01, true, p.openTLSALPN},
		{acme.DNS01, p.cfg.DNSProvider != "", p.openDNS},
	} {
		if !row.configured || p.solvers[row.challengeType] != nil {
			continue
		}
		solver, err := row.open()
		if err != nil {
			return err
		}
		p.solvers[row.challengeType] = solver
		p.onClose(solver.Close)
	}
	return nil
}

func (p *Proxy) openHook() (challenge.Solver, error) {
	return challenge.FromHook(p.cfg.HTTP01Hook, p.log), nil
}

func (p *Proxy) openWebroot() (challenge.Solver, error) {
	return challenge.FromWebroot(p.cfg.HTTP01Webroot)
}

func (p *Proxy) openPort80() (challenge.Solver, error) {
	return challenge.FromMemory(acme.HTTP01, p.publisher()), nil
}

func (p *Proxy) openTLSALPN() (challenge.Solver, error) {
	return challenge.FromMemory(acme.TLSALPN01, p.publisher()), nil
}

func (p *Proxy) openDNS() (challenge.Solver, error) {
	resolvers, err := p.cfg.Resolvers()
	if err != nil {
		return nil, fmt.Errorf("dns-resolver: %w", err)
	}
	return dns01.New(dns01.Config{
		Provider: p.cfg.DNSProvider, Getenv: p.cfg.Getenv,
		Resolvers: resolvers, Propagation: p.cfg.DNSPropagation, Logger: p.log,
	})
}

// publisher serves answers on the ports of this instance and of all others.
func (p *Proxy) publisher() challenge.Publisher {
	return p.peers.Publisher(challenge.Memory{HTTP01: p.responder, TLSALPN: p.tls.alpn})
}
