// Package envproxy finds the HTTP proxy in environment variables and refuses an invalid
// setting. net/http ignores such a setting and connects directly.
//
// acmeproxy itself requests only https:// URLs, so HTTPS_PROXY decides. HTTP_PROXY
// matters to DNS providers only. An invalid entry of NO_PROXY is ignored, which sends
// more through the proxy, never less.
package envproxy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpproxy"
)

// The variables, which may also be in lower case.
const (
	HTTPS = "HTTPS_PROXY"
	HTTP  = "HTTP_PROXY"
)

// Func returns a function for http.Transport that works like
// http.ProxyFromEnvironment with these variables, except that it returns an error if
// HTTPS_PROXY is invalid.
func Func(getenv func(string) string) func(*http.Request) (*url.URL, error) {
	value := func(name string) string {
		_, value := lookup(getenv, name)
		return value
	}
	invalid := Check(getenv, HTTPS)
	proxy := (&httpproxy.Config{HTTPProxy: value(HTTP), HTTPSProxy: value(HTTPS), NoProxy: value("NO_PROXY")}).ProxyFunc()
	return func(r *http.Request) (*url.URL, error) {
		if invalid != nil {
			return nil, invalid
		}
		return proxy(r.URL)
	}
}

// Refused returns a function for http.Transport.OnProxyConnectResponse. It returns a
// *RefusedError if the HTTP proxy refuses the connection.
func Refused(getenv func(string) string) func(context.Context, *url.URL, *http.Request, *http.Response) error {
	return func(_ context.Context, proxy *url.URL, connect *http.Request, resp *http.Response) error {
		if resp.StatusCode == http.StatusOK {
			return nil
		}
		used, _ := lookup(getenv, HTTPS)
		return &RefusedError{Variable: used, Proxy: proxy.Host, Status: resp.StatusCode, Address: connect.Host}
	}
}

// RefusedError means that the HTTP proxy did not connect to an address.
type RefusedError struct {
	Variable string // that names the HTTP proxy
	Proxy    string // host and port
	Status   int    // of its answer to CONNECT
	Address  string // host and port
}

func (e *RefusedError) Error() string {
	remedy := "allow connections to %s there"
	if e.Status >= http.StatusInternalServerError {
		remedy = "check that it can reach %s"
	}
	status := strings.TrimSpace(strconv.Itoa(e.Status) + " " + http.StatusText(e.Status))
	return fmt.Sprintf("%s: %s answered %s to CONNECT; "+remedy, e.Variable, e.Proxy, status, e.Address)
}

// ErrNotProxy reports a variable that is not the URL of a proxy.
var ErrNotProxy = errors.New("not the URL of a proxy")

// Check returns the faults of these variables. It never shows a value, which may
// hold a password. If getenv is nil, there are no variables.
func Check(getenv func(string) string, names ...string) error {
	var errs []error
	for _, name := range names {
		if used, value := lookup(getenv, name); value != "" && !isProxy(value) {
			errs = append(errs, fmt.Errorf("%s: %w; use a URL such as http://proxy.example.com:3128, or unset it", used, ErrNotProxy))
		}
	}
	return errors.Join(errs...)
}

// lookup returns the variable that counts, upper case first, and its value.
func lookup(getenv func(string) string, name string) (used, value string) {
	if getenv == nil {
		return name, ""
	}
	if value = getenv(name); value != "" {
		return name, value
	}
	lower := strings.ToLower(name)
	return lower, getenv(lower)
}

// isProxy reports whether a value is a URL or, as net/http accepts it, host:port alone.
func isProxy(value string) bool {
	if !strings.Contains(value, "://") {
		value = "http://" + value
	}
	u, err := url.Parse(value)
	if err != nil || u.Hostname() == "" || strings.ContainsAny(u.Hostname(), " \t%") {
		return false
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return false
		}
	}
	known := slices.Contains([]string{"http", "https", "socks5", "socks5h"}, u.Scheme)
	return known && !strings.HasSuffix(u.Host, ":") && (u.Path == "" || u.Path == "/")
}
