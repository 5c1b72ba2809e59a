// Package envproxy reads the HTTP proxy of the environment and refuses a setting
// that cannot be understood. net/http ignores such a setting and connects directly.
//
// All that acmeproxy itself asks for is https://, so HTTPS_PROXY decides. HTTP_PROXY
// matters to DNS providers only. An entry of NO_PROXY that cannot be understood
// sends more through the proxy, never less.
package envproxy

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
)

// The variables, which may also be in lower case.
const (
	HTTPS = "HTTPS_PROXY"
	HTTP  = "HTTP_PROXY"
)

// FromEnvironment is http.ProxyFromEnvironment, except that an HTTPS_PROXY that
// cannot be understood is an error.
func FromEnvironment(r *http.Request) (*url.URL, error) {
	if err := Check(HTTPS); err != nil {
		return nil, err
	}
	return http.ProxyFromEnvironment(r)
}

// ErrNotProxy is the fault of a variable.
var ErrNotProxy = errors.New("not the URL of a proxy")

// Check returns the faults of these variables. It never shows a value, which may
// hold a password.
func Check(names ...string) error {
	var errs []error
	for _, name := range names {
		if used, value := lookup(name); value != "" && !isProxy(value) {
			errs = append(errs, fmt.Errorf("%s: %w; write it like http://proxy.example.com:3128, or unset it", used, ErrNotProxy))
		}
	}
	return errors.Join(errs...)
}

// lookup returns the variable that counts, upper case first, and its value.
func lookup(name string) (used, value string) {
	if value = os.Getenv(name); value != "" {
		return name, value
	}
	lower := strings.ToLower(name)
	return lower, os.Getenv(lower)
}

// isProxy accepts a URL, or host:port alone as net/http does.
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
