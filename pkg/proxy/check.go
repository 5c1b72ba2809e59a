package proxy

import (
	"context"
	"crypto/rand"
	"net"
	"net/netip"
	"slices"

	"github.com/acmeproxy/acmeproxy/pkg/checks"
	"github.com/acmeproxy/acmeproxy/pkg/frontend/admin"
	"github.com/acmeproxy/acmeproxy/pkg/preflight"
	"github.com/acmeproxy/acmeproxy/pkg/publicip"
)

// newChecks creates the checks of names for clients.
func (p *Proxy) newChecks() *checks.Checks {
	return checks.New(checks.Config{Authorize: p.audit.Authorize, Run: p.checkForClient, Now: p.cfg.Now})
}

// checkForClient checks names with the current settings. It connects only to addresses
// that a CA could reach, and to the proxy's own.
func (p *Proxy) checkForClient(ctx context.Context, names []string) (preflight.Report, error) {
	g, release := p.use()
	defer release()
	own := p.ownAddresses(g.settings.CheckHTTPPort)
	checker, err := g.newChecker(own, func(addr netip.Addr) string { return checks.Refuse(addr, own) })
	if err != nil {
		return preflight.Report{}, err
	}
	return checker.Run(ctx, names), nil
}

// newChecker creates a checker of names, with the generation's settings.
func (g *generation) newChecker(own func(netip.Addr) bool, refuse func(netip.Addr) string) (*preflight.Checker, error) {
	p := g.process
	resolvers, err := g.settings.CheckServers()
	if err != nil {
		return nil, err
	}
	return preflight.New(preflight.Config{
		Publish: p.newProbe, CA: p.caaAuthority, Challenge: g.settings.Challenge, Elsewhere: g.elsewhere(), DNS01: g.settings.DNSProvider != "",
		Resolvers: resolvers, ResolverSetting: "check-resolver", Own: own, Refuse: refuse,
		HTTPPort: g.settings.CheckHTTPPort, UserAgent: "acmeproxy-check/" + p.cfg.Version,
	})
}

// newProbe makes all instances answer a random token for a host.
func (p *Proxy) newProbe(ctx context.Context, host string) (preflight.Probe, error) {
	probe := preflight.Probe{Token: "acmeproxy-probe-" + rand.Text(), Body: "acmeproxy-probe-" + rand.Text()}
	probe.Remove = p.publishProbe(ctx, host, probe.Token, probe.Body)
	return probe, nil
}

func (p *Proxy) caaAuthority(ctx context.Context) (preflight.Authority, error) {
	ca, err := p.ca(ctx)
	return preflight.Authority{Identities: ca.CAAIdentities, AccountURL: ca.AccountURL}, err
}

// elsewhere returns why the proxy does not answer HTTP-01 itself, or an empty string.
func (g *generation) elsewhere() string {
	switch g.http01() {
	case admin.HTTP01Webroot:
		return "a web server answers there, with files that the proxy writes"
	case admin.HTTP01Hook:
		return "another server answers there, which a hook of the proxy updates"
	case admin.HTTP01Disabled:
		return "the proxy does not open it"
	}
	return ""
}

// ownAddresses returns a function that reports whether an address is this host's, at
// the port that CAs connect to. An address outside the Internet is only if the proxy
// itself listens there, because other servers there may be for local users alone.
func (p *Proxy) ownAddresses(port int) func(netip.Addr) bool {
	if port == 0 {
		port = 80
	}
	var listening netip.Addr
	if p.http != nil {
		if tcp, ok := p.http.Addr().(*net.TCPAddr); ok && tcp.Port == port {
			listening = tcp.AddrPort().Addr().Unmap()
		}
	}
	all, _ := net.InterfaceAddrs() // without them, fewer addresses are its own
	var own []netip.Addr
	for _, a := range all {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil {
			own = append(own, prefix.Addr().Unmap())
		}
	}
	return func(addr netip.Addr) bool { return isOwn(addr, own, listening) }
}

// isOwn reports whether an address is one of those of the interfaces, and serves
// challenges. listening is the invalid Addr if the proxy does not listen at the port.
func isOwn(addr netip.Addr, interfaces []netip.Addr, listening netip.Addr) bool {
	switch {
	case !addr.IsLoopback() && !slices.Contains(interfaces, addr):
		return false
	case publicip.Special(addr) == "": // of the Internet
		return true
	}
	return listening == addr || listening.IsValid() && listening.IsUnspecified()
}
