package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmems"
	"github.com/acmeproxy/acmeproxy/pkg/acmems/accountdir"
	"github.com/acmeproxy/acmeproxy/pkg/challenge"
	"github.com/acmeproxy/acmeproxy/pkg/challenge/dns01"
	"github.com/acmeproxy/acmeproxy/pkg/connlimit"
	"github.com/acmeproxy/acmeproxy/pkg/envproxy"
	signdoor "github.com/acmeproxy/acmeproxy/pkg/frontend/sign"
	"github.com/acmeproxy/acmeproxy/pkg/issuer"
	"github.com/acmeproxy/acmeproxy/pkg/localfile"
	"github.com/acmeproxy/acmeproxy/pkg/modes/sign"
)

// signing serves an ACMEMS configuration. It belongs to the process: only a restart applies
// another one. Its account is that of the configuration, in a folder of its own.
type signing struct {
	rules *acmems.Config
	door  *sign.Door
	pools map[string]*issuer.Pool // by the name of a verification that a block uses
	ports []signPort
}

// signPort is an open port of the configuration.
type signPort struct {
	net.Listener
	server *http.Server
}

// openSign opens what the setting sign-config asks for.
func (p *Proxy) openSign(ctx context.Context) error {
	file := p.cfg.SignConfig
	if file == "" {
		return nil
	}
	rules, err := readRules(file)
	if err != nil {
		return &SettingsError{err}
	}
	s := &signing{rules: rules, pools: map[string]*issuer.Pool{}}
	accounts := accountdir.New(rules.Account.Dir)
	for _, b := range rules.Blocks {
		if name := b.Verification.Name; s.pools[name] == nil {
			if s.pools[name], err = p.newSignPool(b.Verification, rules.Account, accounts); err != nil {
				return &SettingsError{fmt.Errorf("sign-config: %s: %w", file, err)}
			}
		}
	}
	s.door = sign.New(sign.Config{
		Rules: rules, OwnNames: p.ownNames, Audit: p.audit, Logger: p.log,
		Issuer: func(v acmems.Verification) (sign.Issuer, func()) { return s.pools[v.Name], func() {} },
	})
	p.sign = s
	if _, _, _, err := accounts.Account(ctx, rules.Account.Directory); err != nil { // it may generate a key for seconds
		return &SettingsError{fmt.Errorf("sign-config: %s: [account] dir: %w", file, err)}
	}
	if err := p.registerSign(ctx); err != nil {
		return err
	}
	return p.listenSign(ctx)
}

// readRules reads a configuration of ACMEMS. Each fault is a line of the error.
func readRules(file string) (*acmems.Config, error) {
	text, err := localfile.Read(file)
	if err != nil {
		return nil, fmt.Errorf("sign-config: %w", err)
	}
	rules, err := acmems.Parse(text)
	if err == nil {
		return rules, nil
	}
	var faults []error
	for line := range strings.Lines(err.Error()) {
		faults = append(faults, fmt.Errorf("sign-config: %s: %s", file, strings.TrimSpace(line)))
	}
	return nil, errors.Join(faults...)
}

// newSignPool creates the issuer that proves names by one verification.
func (p *Proxy) newSignPool(v acmems.Verification, a acmems.Account, accounts issuer.Accounts) (*issuer.Pool, error) {
	kind, solver, err := p.openSignSolver(v)
	if err != nil {
		return nil, fmt.Errorf("[verification %q]: %w", v.Name, err)
	}
	p.onClose(solver.Close)
	roots := p.cfg.RootCAs
	if roots == nil {
		files := p.cfg.CACertificates
		if more := p.cfg.Getenv("ACME_CAFILE"); more != "" { // of ACMEMS
			files = append(slices.Clone(files), more)
		}
		if roots, err = caRoots(files, p.cfg.Getenv); err != nil {
			return nil, err
		}
	}
	pool, err := issuer.NewPool(issuer.PoolConfig{Shared: p.issuing, CAs: []issuer.CAConfig{{
		DirectoryURL: a.Directory, Accounts: accounts, AcceptTerms: a.Accepts,
		Solvers: map[string]challenge.Solver{kind: solver}, Challenge: kind, Shared: p.peers != nil,
		Proxy: envproxy.Func(p.cfg.Getenv), RootCAs: roots, UserAgent: "acmeproxy/" + p.cfg.Version,
		Logger: p.log, Now: p.cfg.Now,
	}}})
	if err == nil {
		p.onClose(pool.Close)
	}
	return pool, err
}

// openSignSolver returns the type of challenge of a verification and its solver.
func (p *Proxy) openSignSolver(v acmems.Verification) (kind string, _ challenge.Solver, _ error) {
	switch v.Kind {
	case acmems.HTTP01:
		return acme.HTTP01, challenge.FromMemory(acme.HTTP01, p.publisher()), nil
	case acmems.DNS01Update:
		resolvers, err := p.cfg.Resolvers()
		if err != nil {
			return "", nil, err // impossible: Validate has checked them
		}
		settings := updateSettings(v.Update)
		solver, err := dns01.New(dns01.Config{
			Provider: "rfc2136", Getenv: func(name string) string { return settings[name] },
			// As ACMEMS: the name servers of the zone may not be reachable from here.
			Propagation: "none", Resolvers: resolvers, Logger: p.log, Shared: &p.dns,
		})
		return acme.DNS01, solver, err
	}
	return "", nil, fmt.Errorf("type %s is for tests of ACMEMS only; use %s or %s", v.Kind, acmems.HTTP01, acmems.DNS01Update)
}

// updateSettings returns the settings of dynamic updates as the variables of the provider
// rfc2136.
func updateSettings(u acmems.Update) map[string]string {
	return map[string]string{
		"DNSUPDATE_NAMESERVER":     strings.Join(u.Servers, ","),
		"DNSUPDATE_TTL":            strconv.Itoa(int(u.TTL / time.Second)),
		"DNSUPDATE_DNS_TIMEOUT":    strconv.Itoa(int(u.Timeout / time.Second)),
		"DNSUPDATE_TSIG_FILE":      u.TSIG.File,
		"DNSUPDATE_TSIG_KEY":       u.TSIG.Name,
		"DNSUPDATE_TSIG_ALGORITHM": u.TSIG.Algorithm,
		"DNSUPDATE_TSIG_SECRET":    u.TSIG.Secret,
	}
}

// signRegistration limits how long a start waits for the CA of sign-config.
const signRegistration = 20 * time.Second

// registerSign creates the account, as ACMEMS does at its start. Terms that are not accepted
// prevent the start. If the CA fails, the first request for a certificate tries again.
func (p *Proxy) registerSign(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, signRegistration)
	defer cancel()
	for _, pool := range p.sign.pools {
		err := pool.Register(ctx)
		var terms *issuer.TermsError
		if errors.As(err, &terms) {
			return &SettingsError{fmt.Errorf("sign-config: %s: [account] accept-terms-of-service: the CA requires it; read %s, then set it to yes or to this URL",
				p.cfg.SignConfig, terms.URL)}
		}
		if err != nil {
			p.log.Warn("no account for sign-config yet; the next request for a certificate tries again",
				"directory", p.sign.rules.Account.Directory, "error", err)
		}
		return nil // all pools have the same account
	}
	return nil
}

// listenSign opens the ports of the door and of its HTTP-01 verifications.
func (p *Proxy) listenSign(ctx context.Context) error {
	s := p.sign
	door := signdoor.New(signdoor.Config{Begin: s.door.Begin, MaxSize: s.rules.MaxSize, Logger: p.log, Now: p.cfg.Now})
	for _, l := range s.rules.Listeners {
		if err := p.listenSignAt(ctx, l, door, p.cfg.Limits.APIHeader); err != nil {
			return err
		}
		if !l.IsLoopback() {
			p.log.Warn("sign-config listens in the clear beyond this host: who can read the network can send a CSR with its HMAC again",
				"address", l.Address())
		}
	}
	open := map[string]bool{}
	for _, v := range s.rules.Verifications {
		if v.Kind != acmems.HTTP01 || s.pools[v.Name] == nil {
			continue // no block uses it
		}
		for _, l := range v.Listeners {
			if open[l.Address()] {
				continue // of another verification; all have the same answers
			}
			open[l.Address()] = true
			if err := p.listenSignAt(ctx, l, p.responder, p.cfg.Limits.Port80Header); err != nil {
				return err
			}
		}
	}
	return nil
}

// listenSignAt opens one listener, at each address of a host name.
func (p *Proxy) listenSignAt(ctx context.Context, l acmems.Listener, h http.Handler, headers time.Duration) error {
	hosts := []string{l.Host}
	if l.Network() == "tcp" {
		found, err := net.DefaultResolver.LookupHost(ctx, l.Host)
		if err != nil {
			return fmt.Errorf("sign-config: %s: line %d: %w", p.cfg.SignConfig, l.Line, err)
		}
		hosts = found
	}
	for _, host := range hosts {
		at := acmems.Listener{Host: host, Port: l.Port}
		open, err := (&net.ListenConfig{}).Listen(ctx, at.Network(), at.Address())
		if err != nil {
			return fmt.Errorf("sign-config: %s: line %d: cannot listen: %w; stop the program that listens there, or write another listener",
				p.cfg.SignConfig, l.Line, err)
		}
		p.onClose(open.Close)
		server := p.server(h, headers)
		p.sign.ports = append(p.sign.ports, signPort{connlimit.New(open, p.cfg.Limits.port80(0)), server})
	}
	return nil
}

// SignAddrs returns the addresses of the door of sign-config, then those of its
// verifications.
func (p *Proxy) SignAddrs() (addrs []string) {
	if p.sign == nil {
		return nil
	}
	for _, port := range p.sign.ports {
		addrs = append(addrs, port.Addr().String())
	}
	return addrs
}

// logSign logs what the door serves and what its configuration ignores.
func (p *Proxy) logSign() {
	if p.sign == nil {
		return
	}
	for _, w := range p.sign.rules.Warnings {
		p.log.Warn("sign-config", "file", p.cfg.SignConfig, "warning", w.Error())
	}
	p.log.Info("signing CSRs", "file", p.cfg.SignConfig, "addresses", p.SignAddrs(),
		"directory", p.sign.rules.Account.Directory, "blocks", len(p.sign.rules.Blocks))
}

// close waits for issuances until ctx ends, and ends them then.
func (s *signing) close(ctx context.Context) (err error) {
	if s == nil {
		return nil
	}
	s.door.Close(ctx)
	for _, port := range s.ports {
		err = errors.Join(err, port.server.Shutdown(ctx), port.server.Close())
	}
	return err
}
