package preflight

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/acmeproxy/acmeproxy/pkg/responder"
)

// Bounds of one fetch.
const (
	maxRedirects = 5
	maxBody      = 16 << 10
	maxHeaders   = 32 << 10
)

// fetch gets the probe as a CA would get a challenge, but at this address.
func (c *Checker) fetch(ctx context.Context, name string, addr netip.Addr, p Probe) Check {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	check := c.visit(ctx, c.url(name, p.Token), addr, p)
	check.Check, check.Address = HTTP, addr
	return check
}

func (c *Checker) url(name, token string) *url.URL {
	if strings.Contains(name, ":") {
		name = "[" + name + "]"
	}
	u := &url.URL{Scheme: "http", Host: name, Path: responder.Prefix + token}
	if c.cfg.HTTPPort != 80 {
		u.Host += ":" + strconv.Itoa(c.cfg.HTTPPort)
	}
	return u
}

// visit follows redirects as long as they stay at the name.
func (c *Checker) visit(ctx context.Context, u *url.URL, addr netip.Addr, p Probe) Check {
	transport := c.transport(addr)
	seen := []string{u.String()}
	for {
		a, err := get(ctx, transport, u, c.cfg.UserAgent)
		if err != nil {
			check := verdictOnError(err, addr, seen)
			var op *net.OpError
			check.unreached = len(seen) == 1 && errors.As(err, &op) && op.Op == "dial"
			return check
		}
		location := a.header.Get("Location")
		if a.status < 300 || a.status > 399 || location == "" {
			return verdictOnAnswer(a, p, seen)
		}
		next, err := u.Parse(location)
		if err != nil {
			return fails("redirects to "+quote(location)+", which is no URL", "correct that redirect, or forward "+responder.Prefix+" to the proxy")
		}
		next.Fragment = ""
		if check, stop := c.verdictOnRedirect(u, next, seen); stop {
			return check
		}
		seen = append(seen, next.String())
		u = next
	}
}

// verdictOnRedirect lets those pass that stay at the name and end.
func (c *Checker) verdictOnRedirect(from, to *url.URL, seen []string) (check Check, stop bool) {
	const remedy = "let the web server answer " + responder.Prefix + " before it redirects: forward that path to the proxy (docs/web-servers.md)"
	target := quote(to.Scheme + "://" + to.Host + to.Path)
	switch {
	case to.Scheme != "http" && to.Scheme != "https":
		return fails("redirects to "+target+", which is neither http nor https", remedy), true
	case !strings.EqualFold(strings.TrimSuffix(to.Hostname(), "."), from.Hostname()):
		return fails("redirects to another host, "+target+", where the proxy does not answer for this name; not followed", remedy), true
	case !c.mayVisit(to):
		return fails("redirects to "+target+"; CAs go to the ports 80 and 443 only", remedy), true
	case slices.Contains(seen, to.String()):
		return fails("redirects in a circle: "+target+" again", remedy), true
	case len(seen) > maxRedirects:
		return fails(fmt.Sprintf("redirects more than %d times", maxRedirects), remedy), true
	}
	return Check{}, false
}

// mayVisit holds the ports to which a CA follows a redirect.
func (c *Checker) mayVisit(u *url.URL) bool {
	switch u.Port() {
	case "":
		return true
	case strconv.Itoa(c.cfg.HTTPSPort):
		return u.Scheme == "https"
	case strconv.Itoa(c.cfg.HTTPPort):
		return u.Scheme == "http"
	}
	return false
}

// transport connects to one address, whatever the URL's host, and by no HTTP
// proxy of the environment: the CA has none there either. It is no http.Client:
// redirects are visit's to judge, malformed ones included.
func (c *Checker) transport(addr netip.Addr) *http.Transport {
	return &http.Transport{
		DialContext: func(ctx context.Context, network, hostport string) (net.Conn, error) {
			_, port, err := net.SplitHostPort(hostport)
			if err != nil {
				return nil, err
			}
			var d net.Dialer
			return d.DialContext(ctx, network, net.JoinHostPort(addr.String(), port))
		},
		// CAs do not look at the certificate of a redirect's target: there may
		// be none yet. The probe proves who answers.
		TLSClientConfig:        &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // as above
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxHeaders,
	}
}

// answer is what came from a URL, the body bounded.
type answer struct {
	url    *url.URL
	status int
	header http.Header
	body   string
}

func get(ctx context.Context, transport *http.Transport, u *url.URL, userAgent string) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("User-Agent", userAgent)
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return answer{}, err
	}
	return answer{u, resp.StatusCode, resp.Header, string(body)}, nil
}

func fails(detail, remedy string) Check { return Check{Verdict: Fails, Detail: detail, Remedy: remedy} }

// verdictOnAnswer looks at the end of the way.
func verdictOnAnswer(a answer, p Probe, seen []string) Check {
	via := ""
	if len(seen) > 1 {
		via = ", redirected to " + quote(a.url.Scheme+"://"+a.url.Host)
	}
	if a.status == http.StatusOK && strings.TrimRight(a.body, " \t\r\n") == p.Body {
		return Check{Verdict: OK, Detail: "the proxy answers" + via}
	}
	said := fmt.Sprintf("%d %s", a.status, http.StatusText(a.status))
	if s := a.header.Get("Server"); s != "" {
		via = " (Server: " + quote(s) + ")" + via
	}
	if s := title(a.body); s != "" {
		via = ", a page with the title " + quote(s) + via
	}
	remedy := "forward " + responder.Prefix + " to the proxy (docs/web-servers.md), or let DNS lead to the proxy's host"
	if mayBeFiltered(a.status) {
		return fails("another server answers: "+said+via, remedy+"; if it is a web application firewall, exempt "+responder.Prefix+
			" from its rules, challenges and country blocks: CAs come from anywhere and run no JavaScript")
	}
	if a.status == http.StatusNotFound {
		return fails("something answers, but it does not know the proxy's token: "+said+via,
			remedy+"; what forwards must leave Host as it is")
	}
	if a.status == http.StatusOK {
		return fails("another server answers: 200, but not with the proxy's token"+via, remedy)
	}
	return fails("another server answers: "+said+via, remedy)
}

// mayBeFiltered reports whether a web application firewall may have refused the
// request: they answer with one of these.
func mayBeFiltered(status int) bool {
	switch status {
	case http.StatusAccepted, http.StatusUnauthorized, http.StatusForbidden, http.StatusMethodNotAllowed,
		http.StatusNotAcceptable, http.StatusTooManyRequests, http.StatusServiceUnavailable:
		return true
	}
	return false
}

// title returns what a page calls itself, or "".
func title(page string) string {
	_, rest, _ := strings.Cut(page, "<title>")
	text, _, found := strings.Cut(rest, "</title>")
	if !found {
		return ""
	}
	return strings.TrimSpace(text)
}

// verdictOnError looks at a way that ended before an answer.
func verdictOnError(err error, addr netip.Addr, seen []string) Check {
	at := ""
	if len(seen) > 1 {
		at = " after a redirect to " + quote(seen[len(seen)-1])
	}
	var timeout net.Error
	switch {
	case errors.Is(err, unix.ECONNREFUSED):
		return fails("connection refused"+at, "have the proxy or the web server in front of it listen at that address, and let no firewall reject it; if the address is another host's, correct DNS")
	case errors.Is(err, unix.ENETUNREACH) && !addr.Unmap().Is4():
		return Check{
			Verdict: Warning, Detail: "this host has no IPv6 to look with, and CAs prefer IPv6",
			Remedy: "remove the AAAA record, or give this host that address",
		}
	case errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, unix.EADDRNOTAVAIL):
		return fails("there is no way to that address"+at, "correct the address in DNS, or this host's routes")
	case errors.As(err, &timeout) && timeout.Timeout():
		return fails("no answer in time"+at, "open port 80 in the firewall; if a router translates that address, it may only refuse this host: look from outside")
	case isNotHTTP(err):
		return fails("what answers does not speak HTTP"+at, "have port 80 lead to the proxy, or to a web server that forwards "+responder.Prefix+" to it")
	}
	return fails("the connection ended without an answer"+at, "see whether a firewall or a load balancer ends it, and let it pass "+responder.Prefix)
}

// isNotHTTP tells bytes that are no HTTP answer. net/http has no type for
// that, only a text.
func isNotHTTP(err error) bool {
	var record tls.RecordHeaderError
	return errors.As(err, &record) || strings.Contains(err.Error(), "malformed ") || strings.Contains(err.Error(), "server gave HTTP response to HTTPS client")
}

// quote makes a stranger's text harmless for a terminal, and short.
func quote(s string) string {
	const longest = 100
	if len(s) > longest {
		s = s[:longest] + "…"
	}
	return strconv.QuoteToASCII(s)
}
