package dns01

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	osexec "os/exec"
	"strings"
	"time"

	legochallenge "github.com/go-acme/lego/v4/challenge"
	"github.com/go-acme/lego/v4/challenge/dns01"
	"github.com/go-acme/lego/v4/providers/dns/exec"
	"github.com/go-acme/lego/v4/providers/dns/httpreq"

	"github.com/acmeproxy/acmeproxy/pkg/challenge"
	"github.com/acmeproxy/acmeproxy/pkg/dnsprovider"
	"github.com/acmeproxy/acmeproxy/pkg/envproxy"
)

// publisher adds TXT values to names, and deletes them.
type publisher struct {
	publish, withdraw func(ctx context.Context, c challenge.Challenge) error

	timeout  time.Duration // for the propagation
	interval time.Duration // the longest pause between two checks
	alone    bool          // true if a name can have only one value at a time
	pause    time.Duration // after each value, so that caches of it expire
}

// setup holds what providers need.
type setup struct {
	check  *propagation
	getenv func(string) string
	shared *Shared
}

// opener opens a provider, which is configured by environment variables under the
// names that lego documents.
type opener struct {
	open func(setup) (publisher, error)
	// oneAtATime serializes the calls of a lego provider that has state in memory.
	// lego itself never calls a provider concurrently.
	oneAtATime bool
}

// openers returns how the providers of dnsprovider.All are opened, by name. Never
// import lego's package of all providers: it is tens of megabytes.
func openers() map[string]opener {
	return map[string]opener{
		"rfc2136": {open: openRFC2136},
		"exec": {open: func(s setup) (publisher, error) {
			p, err := exec.NewDNSProvider()
			return s.fromLego(p, err, s.checkExec)
		}},
		"httpreq": {open: func(s setup) (publisher, error) {
			p, err := httpreq.NewDNSProvider()
			return s.fromLego(p, err, s.checkHTTPReq)
		}},
		"acme-dns": {oneAtATime: true, open: func(s setup) (publisher, error) {
			p, err := s.shared.acmeDNS()
			return s.fromLego(p, err, s.checkHTTPProxy)
		}},
	}
}

// openProvider opens a provider, or returns what its configuration lacks.
func openProvider(name string, s setup) (publisher, opener, error) {
	o, ok := openers()[name]
	if !ok {
		return publisher{}, o, fmt.Errorf("dns-provider: unknown %q; use one of %s", name, strings.Join(dnsprovider.Names(), ", "))
	}
	p, err := o.open(s)
	if err != nil {
		known, _ := dnsprovider.Find(name)
		return p, o, fmt.Errorf("dns-provider: %w; %s is set up by the environment: %s", err, name, known.Needs)
	}
	return p, o, nil
}

// fromLego wraps one of lego's providers, whose calls cannot be cancelled. check
// finds faults that the provider itself finds too late, or never.
func (s setup) fromLego(p legochallenge.Provider, err error, check func() error) (publisher, error) {
	if err == nil {
		err = check()
	}
	if err != nil {
		return publisher{}, err
	}
	own := publisher{
		publish: func(_ context.Context, c challenge.Challenge) error {
			defer resolvers.use(s.check.resolvers)()
			return p.Present(c.Name, c.Token, c.KeyAuthorization)
		},
		withdraw: func(_ context.Context, c challenge.Challenge) error {
			defer resolvers.use(s.check.resolvers)()
			return p.CleanUp(c.Name, c.Token, c.KeyAuthorization)
		},
		timeout: dns01.DefaultPropagationTimeout, interval: dns01.DefaultPollingInterval,
	}
	if t, ok := p.(legochallenge.ProviderTimeout); ok {
		own.timeout, own.interval = t.Timeout()
	}
	if q, ok := p.(interface{ Sequential() time.Duration }); ok {
		own.alone, own.pause = true, q.Sequential()
	}
	return own, nil
}

func (s setup) checkExec() error {
	if _, err := osexec.LookPath(s.getenv(exec.EnvPath)); err != nil {
		return fmt.Errorf("exec: EXEC_PATH: %w", err)
	}
	return nil
}

func (s setup) checkHTTPReq() error {
	u, err := url.Parse(s.getenv(httpreq.EnvEndpoint))
	if err == nil && s.getenv(httpreq.EnvEndpoint) != "" && (u.Host == "" || u.Scheme != "https" && u.Scheme != "http") {
		err = errors.New("not an http:// or https:// URL")
	}
	if err != nil {
		return errors.New("httpreq: HTTPREQ_ENDPOINT is not an http:// or https:// URL") // it may hold a password
	}
	return s.checkHTTPProxy()
}

// checkHTTPProxy checks the proxy's variables. With an invalid one, lego's clients
// would connect directly.
func (s setup) checkHTTPProxy() error { return envproxy.Check(s.getenv, envproxy.HTTPS, envproxy.HTTP) }
