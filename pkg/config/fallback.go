package config

import (
	"fmt"
	"net"
	"net/url"
	"strconv"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
)

// Values of Serve.HTTPFallback other than the URL of a backend.
const (
	FallbackNotFound = "404"      // 404 for all other requests
	FallbackRedirect = "redirect" // redirect to https://
)

// Backend returns the URL of the web server in HTTPFallback, or nil.
func (s *Serve) Backend() (*url.URL, error) {
	if s.HTTPFallback == FallbackNotFound || s.HTTPFallback == FallbackRedirect {
		return nil, nil
	}
	const remedy = "write 404, redirect, or the address of a web server, such as http://127.0.0.1:8080"
	u, err := url.Parse(s.HTTPFallback)
	if err != nil || u.User != nil || u.Hostname() == "" {
		// Do not repeat a URL, which may contain a password.
		return nil, fmt.Errorf("is invalid; %s", remedy)
	}
	if u.Scheme != "http" || (u.Path != "" && u.Path != "/") || u.RawQuery != "" || u.Fragment != "" || !isHost(u.Hostname()) {
		return nil, fmt.Errorf("%q is not http:// with a host and a port alone; %s", s.HTTPFallback, remedy)
	}
	port := u.Port()
	if port == "" {
		port = "80"
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return nil, fmt.Errorf("%q has no port from 1 to 65535; %s", s.HTTPFallback, remedy)
	}
	addr := net.JoinHostPort(u.Hostname(), port)
	if isLoopback(u.Hostname()) && (sameListener(addr, s.HTTPAddr) || sameListener(addr, s.HTTPSAddr)) {
		return nil, fmt.Errorf("%s is acmeproxy itself; name the web server's own address", s.HTTPFallback)
	}
	return &url.URL{Scheme: u.Scheme, Host: addr}, nil
}

// isHost reports whether host is an address or a DNS name. It accepts names of one
// label, which container networks use.
func isHost(host string) bool {
	_, err := cert.ParseName("x." + host)
	return err == nil || cert.IsIP(host)
}
