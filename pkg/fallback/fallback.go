// Package fallback handles requests on port 80 that are not challenges. It redirects
// them to HTTPS, or forwards them to a web server.
//
//	h := fallback.Redirect(challenges)
//	h := fallback.Backend(challenges, fallback.BackendConfig{Target: target, Logger: logger})
//
// Every request below the challenges' path goes to challenges only, even if its
// token is unknown. A web server that gets such a request could obtain a
// certificate for every name that points here.
//
// The port is open to everyone. The package must never repeat a request in a body,
// redirect to an invalid host, or trust a client's statement about its address.
package fallback

import (
	"io"
	"net/http"
	"net/netip"
	"path"
	"strings"

	"github.com/acmeproxy/acmeproxy/pkg/responder"
)

// Redirect returns a handler that redirects GET and HEAD (301) and other methods
// (308) to the same host and path at https://, on port 443.
func Redirect(challenges http.Handler) http.Handler {
	return route(challenges, http.HandlerFunc(redirect))
}

// route returns a handler that sends challenges, in any spelling of their path, to
// challenges. It refuses requests without a host or path and sends the others to
// others.
func route(challenges, others http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case isChallenge(r.URL.Path):
			challenges.ServeHTTP(w, r)
		case hostOf(r.Host) == "" || r.Method == http.MethodConnect || !strings.HasPrefix(r.URL.Path, "/"):
			refuse(w, http.StatusBadRequest)
		default:
			others.ServeHTTP(w, r)
		}
	})
}

func isChallenge(p string) bool {
	return strings.HasPrefix(p, responder.Prefix) ||
		strings.HasPrefix(strings.ToLower(path.Clean(strings.ReplaceAll(p, `\`, "/")))+"/", responder.Prefix)
}

func redirect(w http.ResponseWriter, r *http.Request) {
	status := http.StatusPermanentRedirect // preserves the method and the body
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		status = http.StatusMovedPermanently
	}
	target := "https://" + hostOf(r.Host) + r.URL.EscapedPath()
	if r.URL.RawQuery != "" {
		target += "?" + printable(r.URL.RawQuery)
	}
	w.Header().Set("Location", target)
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(status)
}

// hostOf returns the host of a Host header, as in a URL but without its port. It
// returns an empty string if that is neither a DNS name nor an IP address.
func hostOf(header string) string {
	if addr, err := netip.ParseAddrPort(header); err == nil {
		return literal(addr.Addr())
	}
	if inner, ok := strings.CutPrefix(header, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		addr, err := netip.ParseAddr(inner)
		if !ok || err != nil || addr.Is4() {
			return ""
		}
		return literal(addr)
	}
	host, port, found := strings.Cut(header, ":")
	if found && (len(port) > 5 || strings.Trim(port, "0123456789") != "") {
		return ""
	}
	if !isName(host) {
		return ""
	}
	return strings.ToLower(host)
}

func literal(addr netip.Addr) string {
	switch {
	case addr.Zone() != "":
		return ""
	case addr.Is4():
		return addr.String()
	}
	return "[" + addr.String() + "]"
}

// isName reports whether host is a DNS name. Underscores are allowed, as in browsers.
func isName(host string) bool {
	host = strings.TrimSuffix(host, ".")
	if host == "" || len(host) > 253 {
		return false
	}
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		if strings.ContainsFunc(label, notInName) {
			return false
		}
	}
	return true
}

func notInName(c rune) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
		return false
	}
	return true
}

// printable escapes the bytes that a header field must not contain.
func printable(query string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for _, c := range []byte(query) {
		if c <= ' ' || c >= 0x7f || strings.IndexByte("\"<>\\^`{|}", c) >= 0 {
			b.Write([]byte{'%', hex[c>>4], hex[c&15]})
			continue
		}
		b.WriteByte(c)
	}
	return b.String()
}

// refuse answers with the status alone.
func refuse(w http.ResponseWriter, status int) {
	h := w.Header()
	h.Set("Content-Type", "text/plain")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	io.WriteString(w, strings.ToLower(http.StatusText(status))+"\n")
}
