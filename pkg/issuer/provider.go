package issuer

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	osexec "os/exec"
	"slices"
	"strings"

	legochallenge "github.com/go-acme/lego/v4/challenge"
	"github.com/go-acme/lego/v4/providers/dns/acmedns"
	"github.com/go-acme/lego/v4/providers/dns/exec"
	"github.com/go-acme/lego/v4/providers/dns/httpreq"
	"github.com/go-acme/lego/v4/providers/dns/rfc2136"
)

// dnsProvider is one of lego's, which reads its settings from the environment
// under the names that lego documents.
type dnsProvider struct {
	open  func() (legochallenge.Provider, error)
	check func() error // what lego would find out too late, or never
	needs string       // for people: the variables
	// oneAtATime is for those that keep something in memory: lego itself never
	// calls them concurrently.
	oneAtATime bool
}

// dnsProviders are those that can be named. Never import lego's package of all
// providers: it is tens of megabytes.
func dnsProviders() map[string]dnsProvider {
	return map[string]dnsProvider{
		"rfc2136": {
			open:  func() (legochallenge.Provider, error) { return rfc2136.NewDNSProvider() },
			check: checkRFC2136,
			needs: "DNSUPDATE_NAMESERVER (host or host:port), and for signed updates DNSUPDATE_TSIG_FILE (made by tsig-keygen) or DNSUPDATE_TSIG_KEY, DNSUPDATE_TSIG_SECRET and DNSUPDATE_TSIG_ALGORITHM (such as hmac-sha256.)",
		},
		"exec": {
			open:  func() (legochallenge.Provider, error) { return exec.NewDNSProvider() },
			check: checkExec,
			needs: "EXEC_PATH (the program, run as: PATH present|cleanup FQDN VALUE)",
		},
		"httpreq": {
			open:  func() (legochallenge.Provider, error) { return httpreq.NewDNSProvider() },
			check: checkHTTPReq,
			needs: "HTTPREQ_ENDPOINT (a URL), and where it asks for a password HTTPREQ_USERNAME and HTTPREQ_PASSWORD or HTTPREQ_PASSWORD_FILE",
		},
		"acme-dns": {
			open:       func() (legochallenge.Provider, error) { return acmedns.NewDNSProvider() },
			check:      func() error { return nil },
			needs:      "ACME_DNS_API_BASE (the acme-dns server's URL), and ACME_DNS_STORAGE_PATH (a file for its accounts) or ACME_DNS_STORAGE_BASE_URL",
			oneAtATime: true,
		},
	}
}

// openProvider returns the provider of that name, or says what it lacks.
func openProvider(name string) (legochallenge.Provider, dnsProvider, error) {
	all := dnsProviders()
	known, ok := all[name]
	if !ok {
		return nil, known, fmt.Errorf("dns-provider: there is no %q; write one of %s", name, strings.Join(slices.Sorted(maps.Keys(all)), ", "))
	}
	p, err := known.open()
	if err == nil {
		err = known.check()
	}
	if err != nil {
		return nil, known, fmt.Errorf("dns-provider: %w; %s is set up by the environment: %s", err, name, known.needs)
	}
	return p, known, nil
}

// checkRFC2136 refuses half a TSIG key, with which lego would send updates
// that are not signed at all.
func checkRFC2136() error {
	key, secret := os.Getenv(rfc2136.EnvTSIGKey) != "", os.Getenv(rfc2136.EnvTSIGSecret) != ""
	if key != secret {
		return errors.New("rfc2136: half of a TSIG key: DNSUPDATE_TSIG_KEY and DNSUPDATE_TSIG_SECRET go together")
	}
	return nil
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
	return nil
}
