// Package envproxy reads the HTTP proxy of the environment (HTTPS_PROXY,
// HTTP_PROXY, NO_PROXY) and refuses a setting that cannot be understood.
// net/http ignores such a setting and connects directly.
package envproxy

import (
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
)

// FromEnvironment is http.ProxyFromEnvironment, except that a setting that
// cannot be understood is an error.
func FromEnvironment(r *http.Request) (*url.URL, error) {
	if err := Check(); err != nil {
		return nil, err
	}
	return http.ProxyFromEnvironment(r)
}

// Check returns every fault of the settings. It never shows a value, which may
// hold a password.
func Check() error {
	var errs []error
	for _, name := range []string{"HTTPS_PROXY", "HTTP_PROXY"} {
		if used, value := lookup(name); value != "" && !isProxy(value) {
			errs = append(errs, errors.New(used+": not the URL of a proxy; write it like http://proxy.example.com:3128, or unset it"))
		}
	}
	if used, value := lookup("NO_PROXY"); !isExceptions(value) {
		errs = append(errs, errors.New(used+": not a list of hosts; write names, addresses and networks like example.com,192.0.2.1,192.0.2.0/24, with commas between them"))
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

func isExceptions(value string) bool {
	for entry := range strings.SplitSeq(value, ",") {
		entry = strings.TrimSpace(entry)
		if strings.ContainsAny(entry, " \t\r\n") {
			return false
		}
		if strings.Contains(entry, "/") {
			if _, err := netip.ParsePrefix(entry); err != nil {
				return false
			}
		}
	}
	return true
}
