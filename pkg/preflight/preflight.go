// Package preflight tells whether a CA would be able to validate a name by
// HTTP-01, before an attempt at the CA is spent on it: what DNS says, whether
// each of the addresses leads to the proxy on this host, whether CAA records
// let the CA issue.
//
//	checker, err := preflight.New(preflight.Config{Publish: …, CA: …})
//	report := checker.Run(ctx, names)
//
// It looks from this host, with this host's view of DNS and of the network;
// the CA looks from the Internet. It must never talk to the CA about a name,
// never follow a redirect to another host, and never pass on what a stranger's
// server says without quoting and shortening it.
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

// Verdict is what came of one check.
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

// What is checked.
const (
	DNS  = "dns"  // which addresses the name has
	HTTP = "http" // whether one address, at port 80, leads to this proxy
	CAA  = "caa"  // whether the CA may issue
)

// Check is one verdict. Detail and Remedy are a line each.
type Check struct {
	Check   string     `json:"check"`
	Address netip.Addr `json:"address,omitzero"` // of HTTP
	Verdict Verdict    `json:"verdict"`
	Detail  string     `json:"detail"`
	Remedy  string     `json:"remedy,omitempty"`

	unreached bool // no connection was made
}

// Result is what was found out about one name.
type Result struct {
	Name    string  `json:"name"`
	Verdict Verdict `json:"verdict"` // the worst of all checks
	Checks  []Check `json:"checks"`
}

func (r *Result) add(checks ...Check) {
	for _, c := range checks {
		r.Checks = append(r.Checks, c)
		if c.Verdict.worse(r.Verdict) {
			r.Verdict = c.Verdict
		}
	}
}

// Viewpoint is the limit of all that this package can say.
const Viewpoint = "seen from this host, not from the Internet: a firewall or a router in front of it may still let nobody in, and DNS may answer others differently"

// Report is what was found out about all names, in their order.
type Report struct {
	Viewpoint string   `json:"viewpoint"`
	Names     []Result `json:"names"`
}

// Failing are the names for which something fails.
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

// Authority is what CAA records are held against.
type Authority struct {
	Identities []string // the CA's issuer domain names (RFC 8555, section 7.1.1)
	AccountURL string   // empty: not registered yet
}

// Config is what a Checker needs.
type Config struct {
	// Publish makes the proxy answer a probe for one host. It is called
	// concurrently.
	Publish func(ctx context.Context, host string) (Probe, error)
	// CA says what CAA records are held against. It is called once for a Run,
	// and only if there are such records.
	CA func(ctx context.Context) (Authority, error)
	// Challenge is the type by which the proxy has names validated that are no
	// wildcards; empty: http-01. Port 80 is looked at for that one only.
	Challenge string
	// Elsewhere says why the probe is not at port 80, such as "a webroot
	// answers": it is then not looked at. Empty: the proxy answers.
	Elsewhere string
	// DNS01 says that the proxy can answer DNS-01, which wildcards need.
	DNS01 bool
	// Resolvers are asked in turn until one answers, each as HOST:PORT. None:
	// those of /etc/resolv.conf.
	Resolvers []string
	HTTPPort  int           // where CAs look; 0: 80. Others are for tests.
	HTTPSPort int           // where a redirect may lead besides; 0: 443. Likewise.
	UserAgent string        // of the fetch
	Timeout   time.Duration // of one question to DNS, and of one fetch with its redirects; 0: 10 s
}

// Bounds of a Run.
const (
	atOnce       = 8                // names
	maxAddresses = 8                // of one name
	nameTimeout  = 50 * time.Second // of all checks of one name
)

// Checker checks names. It is safe for concurrent use.
type Checker struct{ cfg Config }

// New finds the resolvers; it asks them nothing.
func New(cfg Config) (*Checker, error) {
	if cfg.Publish == nil || cfg.CA == nil {
		return nil, errors.New("preflight: Publish and CA are needed")
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
			return nil, fmt.Errorf("%w; name a resolver with --resolver", err)
		}
	}
	return &Checker{cfg}, nil
}

// Run checks canonical names (pkg/cert). It ends early with ctx; the report
// then says nothing about names, but about their checks' end.
func (c *Checker) Run(ctx context.Context, names []string) Report {
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
	_ = group.Wait() // nobody returns an error
	return report
}

// name does all checks of one name.
func (c *Checker) name(ctx context.Context, name string, authority func() (Authority, error)) Result {
	r := Result{Name: name, Verdict: OK}
	if addr, err := netip.ParseAddr(name); err == nil {
		r.add(verdictOnAddresses([]netip.Addr{addr}))
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

// reach checks whether the name leads here, as far as that matters.
func (c *Checker) reach(ctx context.Context, name string) []Check {
	if c.method(name) == acme.DNS01 {
		if !c.cfg.DNS01 {
			return []Check{{
				Check: HTTP, Verdict: Fails, Detail: "a wildcard needs a dns-01 challenge, which this proxy does not answer",
				Remedy: "set --dns-provider of serve, or list the hosts instead of the wildcard",
			}}
		}
		return []Check{{Check: HTTP, Verdict: NotChecked, Detail: "validated by dns-01, for which nobody connects to port 80"}}
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
		return []Check{{Check: HTTP, Verdict: NotChecked, Detail: "validated by " + c.method(name) + ", for which nobody connects to port 80"}}
	case c.cfg.Elsewhere != "":
		return []Check{{Check: HTTP, Verdict: NotChecked, Detail: "the proxy's token is not to be had at port 80: " + c.cfg.Elsewhere}}
	case len(addrs) == 0:
		return []Check{{Check: HTTP, Verdict: NotChecked, Detail: "there is no address to connect to"}}
	}
	probe, err := c.cfg.Publish(ctx, name)
	if err != nil {
		return []Check{{
			Check: HTTP, Verdict: Fails, Detail: "the proxy did not take the probe: " + err.Error(),
			Remedy: "try again; acmeproxy status shows whether the proxy is well",
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

// excuseIPv6 makes a warning of an IPv6 address that cannot be connected to
// while an IPv4 address leads here: CAs try IPv4 then.
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
