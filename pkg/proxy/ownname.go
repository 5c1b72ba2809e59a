package proxy

import (
	"context"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/preflight"
)

const (
	// misses is the number of failing checks in a row after which the CA is asked
	// nevertheless. A check can be wrong: a router may refuse this host's connections
	// to its own public address, and DNS may answer otherwise inside.
	misses = 3
	// recheck is the interval of the checks after one has failed.
	recheck = time.Minute
)

// ownName checks the proxy's hostname before its first certificate is ordered. CAs
// allow few failed validations an hour, and the typical first mistake is a name that
// does not lead here yet.
type ownName struct {
	mu     sync.Mutex // guards the fields below
	failed int        // failing checks in a row, since the last order
	fails  bool       // the last check failed
}

// checkingOwn wraps the issuer of renewals with the check of the hostname.
type checkingOwn struct {
	reporting
	g *generation
}

// Issue implements renewal.Issuer.
func (c checkingOwn) Issue(ctx context.Context, req cert.Request, emit func(acme.Event)) (*cert.Bundle, error) {
	if c.g.mustCheckOwn(req) {
		if err := c.g.checkOwn(ctx); err != nil {
			return nil, err
		}
	}
	return c.reporting.Issue(ctx, req, emit)
}

// mustCheckOwn reports whether req begins the order of a first certificate for the
// hostname. An order that exists is continued.
func (g *generation) mustCheckOwn(req cert.Request) bool {
	name := g.hostname()
	return name != "" && slices.Contains(req.Names, name) && req.Order == (cert.Order{}) && g.mayCheckOwn()
}

// mayCheckOwn reports whether the API has no certificate for the hostname yet, and the CA
// can be expected to see what a check sees. A CA on this host is a test CA with its own DNS.
func (g *generation) mayCheckOwn() bool {
	if g.process.tls.hasPublic(g.hostname()) {
		return false
	}
	return len(g.settings.CheckResolvers) > 0 || !isLocalURL(g.settings.ACMEDirectoryURL)
}

func isLocalURL(directory string) bool {
	u, err := url.Parse(directory)
	if err != nil {
		return true
	}
	addr, err := netip.ParseAddr(u.Hostname())
	return u.Hostname() == "localhost" || err == nil && addr.Unmap().IsLoopback()
}

// checkOwn returns a *managed.Postponed if the CA clearly could not validate the
// hostname, but not more than twice in a row.
func (g *generation) checkOwn(ctx context.Context) error {
	verdict := g.ownVerdict(ctx)
	o := &g.process.own
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.fails = verdict != ""; !o.fails {
		o.failed = 0
		return nil
	}
	if o.failed++; o.failed < misses {
		return &managed.Postponed{Reason: verdict + "; not asking the CA yet"}
	}
	o.failed = 0
	g.process.log.Warn("asking the CA although the hostname does not seem to lead here", "verdict", verdict)
	return nil
}

// ownVerdict returns why the CA could not validate the hostname, with the remedy, or an
// empty string if nothing clearly prevents it. A check that the proxy's own network or
// resolver prevents is not clear.
func (g *generation) ownVerdict(ctx context.Context) string {
	name := g.hostname()
	checker, err := g.newChecker(nil, nil)
	if err != nil {
		g.process.log.Warn("the hostname cannot be checked", "error", err)
		return ""
	}
	report := checker.Run(ctx, []string{name})
	for _, c := range report.Names[0].Checks {
		if c.Verdict != preflight.Fails || c.Check == preflight.DNS && c.By == preflight.ProxyAdmin {
			continue
		}
		at := ""
		if c.Address.IsValid() {
			at = "port 80 of " + c.Address.String() + ": "
		}
		return strings.Join([]string{"hostname " + name, c.Check, at + c.Detail}, ": ") + "; " + c.Remedy
	}
	return ""
}

// watchOwn checks the hostname regularly after a check has failed, and requests its
// certificate as soon as a check succeeds. Otherwise the administrator, who has just
// corrected DNS, would wait for the next attempt.
func (p *Proxy) watchOwn(ctx context.Context) {
	tick := time.NewTicker(recheck)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			p.recheckOwn(ctx)
		}
	}
}

func (p *Proxy) recheckOwn(ctx context.Context) {
	g, release := p.use()
	defer release()
	p.own.mu.Lock()
	fails := p.own.fails
	p.own.mu.Unlock()
	if !fails || !g.mayCheckOwn() || g.ownVerdict(ctx) != "" || ctx.Err() != nil {
		return
	}
	p.own.mu.Lock()
	p.own.fails, p.own.failed = false, 0
	p.own.mu.Unlock()
	rows, err := g.client.Status(ctx)
	if err != nil {
		return // the row has its own next attempt
	}
	for _, row := range rows {
		if !slices.Contains(row.Names, g.hostname()) || row.Serial != "" {
			continue
		}
		p.log.Info("the hostname leads here now", "hostname", g.hostname())
		if _, err := p.RenewNow(ctx, row.ID); err != nil {
			p.log.Warn("the certificate of the hostname is requested later", "error", err)
		}
	}
}
