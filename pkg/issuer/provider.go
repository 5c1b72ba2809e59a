package issuer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	osexec "os/exec"
	"slices"
	"strings"
	"time"

	legochallenge "github.com/go-acme/lego/v4/challenge"
	"github.com/go-acme/lego/v4/challenge/dns01"
	"github.com/go-acme/lego/v4/providers/dns/acmedns"
	"github.com/go-acme/lego/v4/providers/dns/exec"
	"github.com/go-acme/lego/v4/providers/dns/httpreq"

	"github.com/acmeproxy/acmeproxy/pkg/envproxy"
)

// publisher brings TXT values to names, and takes them away again.
type publisher struct {
	publish, withdraw func(ctx context.Context, c challenge) error

	timeout  time.Duration // of the propagation
	interval time.Duration // between two looks, at most
	alone    bool          // one value at a name at a time
	pause    time.Duration // after each, so that caches of the old value run out
}

// dnsProvider makes a publisher, whose settings are in the environment under
// the names that lego documents.
type dnsProvider struct {
	open  func(*propagation) (publisher, error)
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
			open: func(*propagation) (publisher, error) {
				p, err := exec.NewDNSProvider()
				return fromLego(p, err, checkExec)
			},
			needs: "EXEC_PATH (the program, run as: PATH present|cleanup FQDN VALUE)",
		},
		"httpreq": {
			open: func(*propagation) (publisher, error) {
				p, err := httpreq.NewDNSProvider()
				return fromLego(p, err, checkHTTPReq)
			},
			needs: "HTTPREQ_ENDPOINT (a URL), and where it asks for a password HTTPREQ_USERNAME and HTTPREQ_PASSWORD or HTTPREQ_PASSWORD_FILE",
		},
		"acme-dns": {
			open: func(*propagation) (publisher, error) {
				p, err := acmedns.NewDNSProvider()
				return fromLego(p, err, checkHTTPProxy)
			},
			needs:      "ACME_DNS_API_BASE (the acme-dns server's URL), and ACME_DNS_STORAGE_PATH (a file for its accounts) or ACME_DNS_STORAGE_BASE_URL",
			oneAtATime: true,
		},
	}
}

// openProvider returns the provider of that name, or says what it lacks.
func openProvider(name string, check *propagation) (publisher, dnsProvider, error) {
	all := dnsProviders()
	known, ok := all[name]
	if !ok {
		return publisher{}, known, fmt.Errorf("dns-provider: there is no %q; write one of %s", name, strings.Join(slices.Sorted(maps.Keys(all)), ", "))
	}
	p, err := known.open(check)
	if err != nil {
		return p, known, fmt.Errorf("dns-provider: %w; %s is set up by the environment: %s", err, name, known.needs)
	}
	return p, known, nil
}

// fromLego is one of lego's providers, whose calls cannot be cancelled; check
// finds out what it would too late, or never.
func fromLego(p legochallenge.Provider, err error, check func() error) (publisher, error) {
	if err == nil {
		err = check()
	}
	if err != nil {
		return publisher{}, err
	}
	own := publisher{
		publish: func(_ context.Context, c challenge) error {
			return p.Present(c.name, c.token, c.keyAuthorization)
		},
		withdraw: func(_ context.Context, c challenge) error {
			return p.CleanUp(c.name, c.token, c.keyAuthorization)
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

func checkExec() error {
	if _, err := osexec.LookPath(os.Getenv(exec.EnvPath)); err != nil {
		return fmt.Errorf("exec: EXEC_PATH: %w", err)
	}
	return nil
}

func checkHTTPReq() error {
	u, err := url.Parse(os.Getenv(httpreq.EnvEndpoint))
	if err == nil && os.Getenv(httpreq.EnvEndpoint) != "" && (u.Host == "" || u.Scheme != "https" && u.Scheme != "http") {
		err = errors.New("not an http:// or https:// URL")
	}
	if err != nil {
		return errors.New("httpreq: HTTPREQ_ENDPOINT is not an http:// or https:// URL") // it may hold a password
	}
	return checkHTTPProxy()
}

// checkHTTPProxy keeps lego's clients from connecting directly, past a proxy.
func checkHTTPProxy() error { return envproxy.Check(envproxy.HTTPS, envproxy.HTTP) }
