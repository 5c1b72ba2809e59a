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

	"github.com/acmeproxy/acmeproxy/pkg/responder"
)

// Bounds of one fetch.
const (
	maxRedirects = 5
	maxBody      = 16 << 10
	maxHeaders   = 32 << 10
)

// fetch requests the probe at one address as a CA would request a challenge.
func (c *Checker) fetch(ctx context.Context, name string, addr netip.Addr, p Probe) Check {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	check := c.visit(ctx, c.url(name, p.Token), addr, p)
	if check.Check = HTTP; !c.isHidden(name, addr) {
		check.Address = addr
	}
	if check.Remedy != "" && c.cfg.Own != nil && c.cfg.Own(addr.Unmap()) {
		check.By = ProxyAdmin
	}
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

// visit requests a URL and follows redirects that keep the name.
func (c *Checker) visit(ctx context.Context, u *url.URL, addr netip.Addr, p Probe) Check {
	if c.cfg.Refuse != nil {
		if why := c.cfg.Refuse(addr); why != "" {
			return Check{Verdict: NotChecked, Detail: "not connected to: " + why}
		}
	}
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
			return fails("redirects to "+quote(location)+", which is not a URL", "correct that redirect, or forward "+responder.Prefix+" to the proxy")
		}
		next.Fragment = ""
		if check, stop := c.verdictOnRedirect(u, next, seen); stop {
			return check
		}
		seen = append(seen, next.String())
		u = next
	}
}

// verdictOnRedirect returns a verdict, and stop, for a redirect that a CA would not
// follow or that leaves the name.
func (c *Checker) verdictOnRedirect(from, to *url.URL, seen []string) (check Check, stop bool) {
	const remedy = "forward " + responder.Prefix + " to the proxy before any redirect (docs/web-servers.md)"
	target := quote(to.Scheme + "://" + to.Host + to.Path)
	switch {
	case to.Scheme != "http" && to.Scheme != "https":
		return fails("redirects to "+target+", which is neither http nor https", remedy), true
	case !strings.EqualFold(strings.TrimSuffix(to.Hostname(), "."), from.Hostname()):
		return fails("redirects to another host, "+target+", where the proxy does not answer for this name; not followed", remedy), true
	case !c.mayVisit(to):
		return fails("redirects to "+target+"; CAs follow redirects to the ports 80 and 443 only", remedy), true
	case slices.Contains(seen, to.String()):
		return fails("redirects in a circle: "+target+" again", remedy), true
	case len(seen) > maxRedirects:
		return fails(fmt.Sprintf("redirects more than %d times", maxRedirects), remedy), true
	}
	return Check{}, false
}

// mayVisit reports whether a CA would follow a redirect to the port of u.
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

// transport returns connections to one address, for any host in the URL, without an
// HTTP proxy, because the CA uses none of ours. It is not a http.Client, because visit
// judges redirects, including malformed ones.
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
		// CAs do not verify the certificate of a redirect's target, which may not
		// exist yet. The probe proves who answers.
		TLSClientConfig:        &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // as above
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxHeaders,
	}
}

// answer is the response from a URL, with at most maxBody of its body.
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

// verdictOnAnswer returns the verdict on the answer after all redirects.
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
	fails := func(detail, remedy string) Check {
		return Check{Verdict: Fails, Detail: detail, Remedy: remedy, By: NameOwner}
	}
	remedy := "forward " + responder.Prefix + " to the proxy (docs/web-servers.md), or set the address of the proxy's host in DNS"
	if mayBeFiltered(a.status) {
		return fails("another server answers: "+said+via, remedy+"; if it is a web application firewall, exempt "+responder.Prefix+
			" from its rules, challenges and country blocks, because CAs connect from anywhere and run no JavaScript")
	}
	if a.status == http.StatusNotFound {
		return fails("a server answers that does not know the proxy's token: "+said+via,
			remedy+"; the server that forwards must not change Host")
	}
	if a.status == http.StatusOK {
		return fails("another server answers: 200, but not with the proxy's token"+via, remedy)
	}
	return fails("another server answers: "+said+via, remedy)
}

// mayBeFiltered reports whether a web application firewall may have refused the
// request.
func mayBeFiltered(status int) bool {
	switch status {
	case http.StatusAccepted, http.StatusUnauthorized, http.StatusForbidden, http.StatusMethodNotAllowed,
		http.StatusNotAcceptable, http.StatusTooManyRequests, http.StatusServiceUnavailable:
		return true
	}
	return false
}

// title returns the title of a page, or an empty string.
func title(page string) string {
	_, rest, _ := strings.Cut(page, "<title>")
	text, _, found := strings.Cut(rest, "</title>")
	if !found {
		return ""
	}
	return strings.TrimSpace(text)
}

// verdictOnError returns the verdict on a request without an answer.
func verdictOnError(err error, addr netip.Addr, seen []string) Check {
	at := ""
	if len(seen) > 1 {
		at = " after a redirect to " + quote(seen[len(seen)-1])
	}
	var timeout net.Error
	switch {
	case errors.Is(err, errRefused):
		return fails("connection refused"+at, "make the proxy or the web server in front of it listen at that address, and allow it in the firewall; if the address is another host's, correct DNS")
	case errors.Is(err, errNoNetwork) && !addr.Unmap().Is4():
		return Check{
			Verdict: Warning, Detail: "the proxy's host has no IPv6 to check it with, and CAs prefer IPv6",
			Remedy: "remove the AAAA record, or give the proxy's host that address",
		}
	case errors.Is(err, errNoNetwork), errors.Is(err, errNoHost), errors.Is(err, errNoAddress):
		return fails("that address has no route"+at, "correct the address in DNS, or the routes of the proxy's host")
	case errors.As(err, &timeout) && timeout.Timeout():
		return fails("no answer in time"+at, "open port 80 in the firewall; if a router translates that address, it may refuse the proxy's host only; check from outside")
	case isNotHTTP(err):
		return fails("the answer is not HTTP"+at, "forward port 80 to the proxy, or to a web server that forwards "+responder.Prefix+" to it")
	}
	return fails("the connection ended without an answer"+at, "check whether a firewall or a load balancer ends it, and allow "+responder.Prefix)
}

// isNotHTTP reports whether an answer was not HTTP. net/http has only a message for
// that, no type.
func isNotHTTP(err error) bool {
	var record tls.RecordHeaderError
	return errors.As(err, &record) || strings.Contains(err.Error(), "malformed ") || strings.Contains(err.Error(), "server gave HTTP response to HTTPS client")
}

// quote shortens foreign text and escapes it for a terminal.
func quote(s string) string {
	const longest = 100
	if len(s) > longest {
		s = s[:longest] + "…"
	}
	return strconv.QuoteToASCII(s)
}
