package dns01

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	osexec "os/exec"
	"slices"
	"strings"
	"time"

	legochallenge "github.com/go-acme/lego/v4/challenge"
	"github.com/go-acme/lego/v4/challenge/dns01"
	"github.com/go-acme/lego/v4/providers/dns/acmedns"
	"github.com/go-acme/lego/v4/providers/dns/exec"
	"github.com/go-acme/lego/v4/providers/dns/httpreq"

	"github.com/acmeproxy/acmeproxy/pkg/challenge"
	"github.com/acmeproxy/acmeproxy/pkg/envproxy"
)

// publisher adds TXT values to names, and deletes them.
type publisher struct {
	publish, withdraw func(ctx context.Context, c challenge.Challenge) error

	timeout  time.Duration // of the propagation
	interval time.Duration // between two looks, at most
	alone    bool          // one value at a name at a time
	pause    time.Duration // after each, so that caches of the old value run out
}

// setup is what providers are made from.
type setup struct {
	check  *propagation
	getenv func(string) string
}

// dnsProvider makes a publisher, whose settings are in the environment under
// the names that lego documents.
type dnsProvider struct {
	open  func(setup) (publisher, error)
	needs string // for people: the variables
	// oneAtATime is for those of lego's that keep something in memory: lego
	// itself never calls them concurrently.
	oneAtATime bool
}

// dnsProviders are those that can be named. Never import lego's package of all
// providers: it is tens of megabytes.
func dnsProviders() map[string]dnsProvider {
	return map[string]dnsProvider{
		"rfc2136": {
			open:  openRFC2136,
			needs: "DNSUPDATE_NAMESERVER (host or host:port, or several), and for signed updates DNSUPDATE_TSIG_FILE (made by tsig-keygen) or DNSUPDATE_TSIG_KEY, DNSUPDATE_TSIG_SECRET and DNSUPDATE_TSIG_ALGORITHM (hmac-sha256, if left out)",
		},
		"exec": {
			open: func(s setup) (publisher, error) {
				p, err := exec.NewDNSProvider()
				return fromLego(p, err, s.checkExec)
			},
			needs: "EXEC_PATH (the program, run as: PATH present|cleanup FQDN VALUE)",
		},
		"httpreq": {
			open: func(s setup) (publisher, error) {
				p, err := httpreq.NewDNSProvider()
				return fromLego(p, err, s.checkHTTPReq)
			},
			needs: "HTTPREQ_ENDPOINT (a URL), and where it asks for a password HTTPREQ_USERNAME and HTTPREQ_PASSWORD or HTTPREQ_PASSWORD_FILE",
		},
		"acme-dns": {
			open: func(s setup) (publisher, error) {
				p, err := acmedns.NewDNSProvider()
				return fromLego(p, err, s.checkHTTPProxy)
			},
			needs:      "ACME_DNS_API_BASE (the acme-dns server's URL), and ACME_DNS_STORAGE_PATH (a file for its accounts) or ACME_DNS_STORAGE_BASE_URL",
			oneAtATime: true,
		},
	}
}

// openProvider returns the provider of that name, or says what it lacks.
func openProvider(name string, s setup) (publisher, dnsProvider, error) {
	all := dnsProviders()
	known, ok := all[name]
	if !ok {
		return publisher{}, known, fmt.Errorf("dns-provider: there is no %q; write one of %s", name, strings.Join(slices.Sorted(maps.Keys(all)), ", "))
	}
	p, err := known.open(s)
	if err != nil {
		return p, known, fmt.Errorf("dns-provider: %w; %s is set up by the environment: %s", err, name, known.needs)
	}
	return p, known, nil
}

// fromLego wraps one of lego's providers, whose calls cannot be cancelled. check
// finds faults that the provider itself would find too late, or never.
func fromLego(p legochallenge.Provider, err error, check func() error) (publisher, error) {
	if err == nil {
		err = check()
	}
	if err != nil {
		return publisher{}, err
	}
	own := publisher{
		publish: func(_ context.Context, c challenge.Challenge) error {
			return p.Present(c.Name, c.Token, c.KeyAuthorization)
		},
		withdraw: func(_ context.Context, c challenge.Challenge) error {
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

// checkHTTPProxy keeps lego's clients from connecting directly, past a proxy.
func (s setup) checkHTTPProxy() error { return envproxy.Check(envproxy.HTTPS, envproxy.HTTP) }
