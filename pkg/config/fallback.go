package config

import (
	"fmt"
	"net"
	"net/url"
	"strconv"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
)

// What Serve.HTTPFallback can be besides the URL of a backend.
const (
	FallbackNotFound = "404"      // all but challenges is not found
	FallbackRedirect = "redirect" // to https://
)

// Backend is the web server that HTTPFallback names; nil if it names none.
func (s *Serve) Backend() (*url.URL, error) {
	if s.HTTPFallback == FallbackNotFound || s.HTTPFallback == FallbackRedirect {
		return nil, nil
	}
	const remedy = "write 404, redirect, or the address of a web server, such as http://127.0.0.1:8080"
	u, err := url.Parse(s.HTTPFallback)
	if err != nil || u.User != nil || u.Hostname() == "" {
		// A URL with a password in it is not repeated.
		return nil, fmt.Errorf("is not understood; %s", remedy)
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

// isHost takes names of one label, too, which container networks have.
func isHost(host string) bool {
	_, err := cert.ParseName("x." + host)
	return err == nil || cert.IsIP(host)
}
