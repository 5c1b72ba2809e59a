package validation

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
)

// HTTP01 validates http-01 (RFC 8555, section 8.3). It tries the addresses of the name in
// turn until one accepts a connection, and follows redirects to the ports 80 and 443.
// Certificates of redirects are not verified, because there may be none yet.
type HTTP01 struct{ Network }

// Bounds of one attempt.
const (
	maxRedirects = 10
	maxBody      = 1 << 10  // a key authorization has less than 100 bytes
	maxAnswer    = 32 << 10 // with its headers
)

// wellKnown is the path below which clients publish key authorizations.
const wellKnown = "/.well-known/acme-challenge/"

// Validate implements acmeserver.Validator.
func (h HTTP01) Validate(ctx context.Context, v acmeserver.Validation) error {
	return h.attempt(ctx, v, func(ctx context.Context) *fault {
		if f := forName(v); f != nil {
			return f
		}
		host := v.Identifier.Value
		if strings.Contains(host, ":") {
			host = "[" + host + "]"
		}
		return h.visit(ctx, &url.URL{Scheme: "http", Host: host, Path: wellKnown + v.Token}, v.KeyAuthorization)
	})
}

// visit requests a URL, follows redirects, and compares the answer.
func (h HTTP01) visit(ctx context.Context, u *url.URL, want string) *fault {
	for redirects := 0; ; redirects++ {
		next, f := h.fetch(ctx, u, want)
		switch {
		case f != nil && redirects > 0:
			// The client chose that server, which may be one that it cannot reach itself.
			return hide(f)
		case f != nil || next == nil:
			return f
		case redirects == maxRedirects:
			return &fault{kind: acme.Connection, detail: "the server redirects more than " + strconv.Itoa(maxRedirects) + " times"}
		}
		u = next
	}
}

// hide returns a fault that does not describe what a server answered.
func hide(f *fault) *fault {
	switch f.kind {
	case acme.DNS:
		return &fault{kind: acme.DNS, detail: "after a redirect: the host has no address that this server connects to", final: f.final}
	case acme.Connection, acme.TLS:
		return &fault{kind: acme.Connection, detail: "after a redirect: the connection fails", final: f.final}
	}
	return &fault{kind: acme.Unauthorized, detail: "after a redirect: the answer is not the key authorization with the status 200", final: f.final}
}

// fetch requests one URL. It returns the next one, or nil if the answer is correct. It
// does without a http.Transport, which logs what a server sends too early.
func (h HTTP01) fetch(ctx context.Context, u *url.URL, want string) (next *url.URL, f *fault) {
	conn, f := h.open(ctx, u)
	if f != nil {
		return nil, f
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	resp, err := h.exchange(ctx, conn, u)
	switch {
	case ctx.Err() != nil:
		return nil, &fault{kind: acme.Connection, detail: "there is no answer in time"}
	case err != nil:
		return nil, &fault{kind: acme.Connection, detail: "the connection ends without an HTTP answer"}
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
		return nil, compare(resp.Body, want)
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return h.redirect(u, resp.Header.Get("Location"))
	}
	return nil, &fault{kind: acme.Unauthorized, detail: "the answer has the status " + strconv.Itoa(resp.StatusCode) + " instead of 200"}
}

// open connects to the host of a URL.
func (h HTTP01) open(ctx context.Context, u *url.URL) (net.Conn, *fault) {
	port := cmp.Or(u.Port(), map[string]string{"http": "80", "https": "443"}[u.Scheme])
	conn, f := h.connect(ctx, u.Hostname(), port)
	if f != nil || u.Scheme == "http" {
		return conn, f
	}
	return handshake(ctx, conn, &tls.Config{
		ServerName: u.Hostname(), NextProtos: []string{"http/1.1"},
		InsecureSkipVerify: true, //nolint:gosec // see HTTP01
	})
}

// exchange sends the request and reads the headers of the answer.
func (h HTTP01) exchange(ctx context.Context, conn net.Conn, u *url.URL) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", cmp.Or(h.UserAgent, "acmeserver"))
	req.Close = true
	if err := req.Write(conn); err != nil {
		return nil, err
	}
	limited := bufio.NewReader(io.LimitReader(conn, maxAnswer))
	for {
		resp, err := http.ReadResponse(limited, req)
		if err != nil || resp.StatusCode >= http.StatusOK {
			return resp, err
		}
		// What follows is the answer, because it has no body (RFC 9110, section 15.2).
	}
}

// compare reads the answer, which may have whitespace at its end.
func compare(body io.Reader, want string) *fault {
	got, err := io.ReadAll(io.LimitReader(body, maxBody+1))
	switch {
	case err != nil:
		return &fault{kind: acme.Connection, detail: "the answer ends early"}
	case len(got) > maxBody:
		return &fault{kind: acme.IncorrectResponse, detail: "the answer is longer than a key authorization"}
	case strings.TrimRight(string(got), " \t\r\n") != want:
		return &fault{kind: acme.IncorrectResponse, detail: "the answer is not the key authorization of this challenge and account"}
	}
	return nil
}

// redirect returns the URL that a server redirects to.
func (h HTTP01) redirect(from *url.URL, location string) (*url.URL, *fault) {
	refuse := func(why string) (*url.URL, *fault) {
		return nil, &fault{kind: acme.Connection, detail: "the server redirects to " + why}
	}
	if location == "" {
		return refuse("no URL")
	}
	next, err := from.Parse(location)
	switch {
	case err != nil || next.Hostname() == "" || next.Opaque != "" || !isASCII(next.Host):
		return refuse("a URL that is not valid")
	case next.Scheme != "http" && next.Scheme != "https":
		return refuse("a URL that is neither http nor https")
	case !h.mayVisit(next.Port()):
		return refuse("a port that is neither 80 nor 443")
	}
	next.User, next.Fragment = nil, ""
	return next, nil
}

// isASCII reports whether a URL's host is written as RFC 3986 demands.
func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f })
}

func (h HTTP01) mayVisit(port string) bool {
	switch port {
	case "", "80", "443":
		return true
	}
	return port == h.realPort("80") || port == h.realPort("443")
}
