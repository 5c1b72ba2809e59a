// Package preflight checks whether a CA could validate a name by HTTP-01, before an
// attempt at the CA is used. It checks the addresses in DNS, whether each address leads
// to the proxy on this host, and whether CAA records let the CA issue.
//
//	checker, err := preflight.New(preflight.Config{Publish: …, CA: …})
//	report := checker.Run(ctx, names)
//
// It sees DNS and the network from this host, the CA from the Internet. It must never
// send a name to the CA, never follow a redirect to another host, and never return text
// of an unknown server without quoting and shortening it.
package preflight

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/challenge"
	"github.com/acmeproxy/acmeproxy/pkg/dnsquery"
)

// Verdict is the result of one check.
type Verdict string

// The verdicts, from good to bad.
const (
	OK         Verdict = "ok"
	NotChecked Verdict = "not checked"
	Warning    Verdict = "warning" // it may fail
	Fails      Verdict = "fails"   // it will fail, or already has
)

func (v Verdict) worse(o Verdict) bool {
	order := map[Verdict]int{OK: 0, NotChecked: 1, Warning: 2, Fails: 3}
	return order[v] > order[o]
}

// The checks.
const (
	DNS  = "dns"  // the addresses of the name
	HTTP = "http" // whether one address, at port 80, leads to this proxy
	CAA  = "caa"  // whether the CA may issue
)

// Party is a person who can apply a remedy.
type Party string

// The parties.
const (
	NameOwner  Party = "name"  // manages the DNS of the name, or the server at its address
	ProxyAdmin Party = "proxy" // the proxy's administrator
)

// Check holds one verdict. Detail and Remedy are a line each.
type Check struct {
	Check   string     `json:"check"`
	Address netip.Addr `json:"address,omitzero"` // the address of an HTTP check
	Verdict Verdict    `json:"verdict"`
	Detail  string     `json:"detail"`
	Remedy  string     `json:"remedy,omitempty"`
	By      Party      `json:"by,omitempty"` // who must apply the remedy

	unreached bool // no connection was made
}

// Result holds the checks of one name.
type Result struct {
	Name    string  `json:"name"`
	Verdict Verdict `json:"verdict"` // the worst of all checks
	Checks  []Check `json:"checks"`
}

func (r *Result) add(checks ...Check) {
	for _, c := range checks {
		if c.Remedy != "" && c.By == "" {
			if c.By = NameOwner; c.Check == HTTP {
				c.By = ProxyAdmin
			}
		}
		r.Checks = append(r.Checks, c)
		if c.Verdict.worse(r.Verdict) {
			r.Verdict = c.Verdict
		}
	}
}

// Viewpoint states the limit of all verdicts.
const Viewpoint = "seen from the proxy's host, not from the Internet: a firewall or a router in front of it may still reject a CA, and DNS may give it other answers"

// Report holds the results of all names, in their order.
type Report struct {
	Viewpoint string   `json:"viewpoint"`
	Names     []Result `json:"names"`
}

// Failing returns the names that have a failing check.
func (r Report) Failing() []string {
	var names []string
	for _, n := range r.Names {
		if n.Verdict == Fails {
			names = append(names, n.Name)
		}
	}
	return names
}

// Probe is an answer that the proxy gives at the HTTP-01 path until Remove.
type Probe struct {
	Token, Body string
	Remove      func()
}

// Authority holds what CAA records may name.
type Authority struct {
	Identities []string // the CA's issuer domain names (RFC 8555, section 7.1.1)
	AccountURL string   // empty before the registration
}

// Config configures a Checker.
type Config struct {
	// Publish makes the proxy answer a probe for one host. It is called
	// concurrently.
	Publish func(ctx context.Context, host string) (Probe, error)
	// CA returns what CAA records may name. A Run calls it at most once, if a name has
	// such records.
	CA func(ctx context.Context) (Authority, error)
	// Challenge is the type of challenge for names that are not wildcards; if empty,
	// http-01. Only http-01 needs a check of port 80.
	Challenge string
	// Elsewhere is the reason why the probe is not at port 80, such as "a webroot
	// answers". Port 80 is then not checked. If empty, the proxy answers.
	Elsewhere string
	// DNS01 is set if the proxy can answer DNS-01, which wildcards need.
	DNS01 bool
	// Resolvers, as host:port, are asked in turn until one answers. If empty, those of
	// /etc/resolv.conf are.
	Resolvers []string
	// ResolverSetting names the setting of Resolvers, for remedies.
	ResolverSetting string
	// Own reports whether an address is the proxy host's own. Its administrator then
	// applies the remedies of port 80. If nil, none is.
	Own func(netip.Addr) bool
	// Refuse returns why the check must not connect to an address, or an empty string
	// if it may. The report does not show such an address of a DNS name. If nil, it
	// connects to all.
	Refuse    func(netip.Addr) string
	HTTPPort  int           // of the fetch; if 0, 80; set by tests only
	HTTPSPort int           // to which a redirect may lead too; if 0, 443; set by tests only
	UserAgent string        // of the fetch
	Timeout   time.Duration // for one DNS question, and for one fetch with its redirects; if 0, 10 s
}

// Bounds of a Run.
const (
	atOnce       = 8                // names checked at a time
	maxAddresses = 8                // checked for one name
	nameTimeout  = 50 * time.Second // for all checks of one name
)

// Checker checks names. It is safe for concurrent use.
type Checker struct {
	cfg     Config
	answers *answers // of one Run
}

// New returns a Checker. It finds the resolvers and asks them nothing.
func New(cfg Config) (*Checker, error) {
	if cfg.Publish == nil || cfg.CA == nil {
		return nil, errors.New("preflight: Publish and CA are missing; set both")
	}
	if cfg.Challenge == "" {
		cfg.Challenge = acme.HTTP01
	}
	if cfg.HTTPPort == 0 {
		cfg.HTTPPort = 80
	}
	if cfg.HTTPSPort == 0 {
		cfg.HTTPSPort = 443
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 10 * time.Second
	}
	if len(cfg.Resolvers) == 0 {
		var err error
		if cfg.Resolvers, err = dnsquery.SystemResolvers(); err != nil {
			return nil, fmt.Errorf("%w; name a resolver with %s", err, cfg.ResolverSetting)
		}
	}
	return &Checker{cfg: cfg}, nil
}

// Run checks canonical names (package cert). If ctx ends first, the report holds the
// errors of interrupted checks.
func (c *Checker) Run(ctx context.Context, names []string) Report {
	c = &Checker{cfg: c.cfg, answers: &answers{begun: map[question]*lookup{}}}
	report := Report{Viewpoint: Viewpoint, Names: make([]Result, len(names))}
	authority := sync.OnceValues(func() (Authority, error) { return c.cfg.CA(ctx) })
	var group errgroup.Group
	group.SetLimit(atOnce)
	for i, name := range names {
		group.Go(func() error {
			ctx, cancel := context.WithTimeout(ctx, nameTimeout)
			defer cancel()
			report.Names[i] = c.name(ctx, name, authority)
			return nil
		})
	}
	_ = group.Wait() // no goroutine returns an error
	return report
}

// name does all checks of one name.
func (c *Checker) name(ctx context.Context, name string, authority func() (Authority, error)) Result {
	r := Result{Name: name, Verdict: OK}
	if addr, err := netip.ParseAddr(name); err == nil {
		r.add(c.verdictOnAddresses(name, []netip.Addr{addr}))
		r.add(c.http(ctx, name, []netip.Addr{addr})...)
		r.add(Check{Check: CAA, Verdict: NotChecked, Detail: "CAA records are for DNS names only"})
		return r
	}
	var caa Check
	var waiting sync.WaitGroup
	waiting.Go(func() { caa = c.caa(ctx, name, authority) })
	r.add(c.reach(ctx, name)...)
	waiting.Wait()
	r.add(caa)
	return r
}

// reach checks whether the name leads to this proxy, if its challenge needs that.
func (c *Checker) reach(ctx context.Context, name string) []Check {
	if c.method(name) == acme.DNS01 {
		if !c.cfg.DNS01 {
			return []Check{{
				Check: HTTP, Verdict: Fails, Detail: "a wildcard needs a dns-01 challenge, which this proxy does not answer",
				Remedy: "configure a DNS provider at the proxy, or list the hosts instead of the wildcard",
			}}
		}
		return []Check{{Check: HTTP, Verdict: NotChecked, Detail: "validated by dns-01, which does not use port 80"}}
	}
	addrs, dns := c.addresses(ctx, name)
	return append([]Check{dns}, c.http(ctx, name, addrs)...)
}

// method returns the type of challenge by which a name is validated.
func (c *Checker) method(name string) string {
	return challenge.Types(c.cfg.Challenge, cert.IsIP(name), cert.IsWildcard(name))[0]
}

// http checks port 80 of each address, at the same time.
func (c *Checker) http(ctx context.Context, name string, addrs []netip.Addr) []Check {
	switch {
	case c.method(name) != acme.HTTP01:
		return []Check{{Check: HTTP, Verdict: NotChecked, Detail: "validated by " + c.method(name) + ", which does not use port 80"}}
	case c.cfg.Elsewhere != "":
		return []Check{{Check: HTTP, Verdict: NotChecked, Detail: "the proxy's token is not at port 80: " + c.cfg.Elsewhere}}
	case len(addrs) == 0:
		return []Check{{Check: HTTP, Verdict: NotChecked, Detail: "the name has no address to connect to"}}
	}
	probe, err := c.cfg.Publish(ctx, name)
	if err != nil {
		return []Check{{
			Check: HTTP, Verdict: Fails, Detail: "the proxy did not take the probe: " + err.Error(),
			Remedy: "try again, and look at the proxy's status and log",
		}}
	}
	defer probe.Remove()
	var left int
	if len(addrs) > maxAddresses {
		left, addrs = len(addrs)-maxAddresses, addrs[:maxAddresses]
	}
	checks := make([]Check, len(addrs))
	var fetching sync.WaitGroup
	for i, addr := range addrs {
		fetching.Go(func() { checks[i] = c.fetch(ctx, name, addr, probe) })
	}
	fetching.Wait()
	excuseIPv6(checks)
	if left > 0 {
		checks = append(checks, Check{Check: HTTP, Verdict: NotChecked, Detail: fmt.Sprintf("%d more addresses", left)})
	}
	return checks
}

// excuseIPv6 turns the failure of an IPv6 address that refuses connections into a
// warning if an IPv4 address leads here, because CAs then try IPv4.
func excuseIPv6(checks []Check) {
	leadsHere := func(c Check) bool { return c.Address.Unmap().Is4() && c.Verdict == OK }
	if !slices.ContainsFunc(checks, leadsHere) {
		return
	}
	for i, c := range checks {
		if c.unreached && c.Verdict == Fails && !c.Address.Unmap().Is4() {
			checks[i].Verdict = Warning
			checks[i].Detail += "; many CAs try IPv4 then"
		}
	}
}
