package proxy

import (
	"fmt"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/challenge"
	"github.com/acmeproxy/acmeproxy/pkg/challenge/dns01"
	"github.com/acmeproxy/acmeproxy/pkg/config"
)

// openSolvers opens one solver for each type of challenge: the first configured one
// in the table.
func (g *generation) openSolvers() error {
	p := g.process
	g.solvers = map[string]challenge.Solver{}
	for _, row := range []struct {
		challengeType string
		configured    bool
		open          func() (challenge.Solver, error)
	}{
		{acme.HTTP01, g.settings.HTTP01Hook != "", g.openHook},
		{acme.HTTP01, g.settings.HTTP01Webroot != "", g.openWebroot},
		{acme.HTTP01, p.cfg.HTTPAddr != config.None, p.openPort80},
		{acme.TLSALPN01, true, p.openTLSALPN},
		{acme.DNS01, g.settings.DNSProvider != "", g.openDNS},
	} {
		if !row.configured || g.solvers[row.challengeType] != nil {
			continue
		}
		solver, err := row.open()
		if err != nil {
			return err
		}
		g.solvers[row.challengeType] = solver
		g.closers = append(g.closers, solver.Close)
	}
	return nil
}

func (g *generation) openHook() (challenge.Solver, error) {
	p := g.process
	return challenge.FromHook(challenge.HookConfig{
		Command: g.settings.HTTP01Hook, Environ: p.cfg.Environ, Logger: p.log, Places: &p.places,
	}), nil
}

func (g *generation) openWebroot() (challenge.Solver, error) {
	return challenge.FromWebroot(g.settings.HTTP01Webroot, &g.process.places)
}

func (p *Proxy) openPort80() (challenge.Solver, error) {
	return challenge.FromMemory(acme.HTTP01, p.publisher()), nil
}

func (p *Proxy) openTLSALPN() (challenge.Solver, error) {
	return challenge.FromMemory(acme.TLSALPN01, p.publisher()), nil
}

func (g *generation) openDNS() (challenge.Solver, error) {
	resolvers, err := g.settings.Resolvers()
	if err != nil {
		return nil, fmt.Errorf("dns-resolver: %w", err)
	}
	return dns01.New(dns01.Config{
		Provider: g.settings.DNSProvider, Getenv: g.process.cfg.Getenv,
		Resolvers: resolvers, Propagation: g.settings.DNSPropagation, Logger: g.process.log,
		Shared: &g.process.dns,
	})
}

// publisher returns a publisher for the ports of this instance and of all others.
func (p *Proxy) publisher() challenge.Publisher {
	return p.peers.Publisher(challenge.Memory{HTTP01: p.responder, TLSALPN: p.tls.alpn})
}
