package config

import (
	"errors"
	"fmt"
	"net"
	"net/mail"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/store/dsn"
)

// Validate returns every fault with its key, its place if Load set it, and the fix. It checks only s itself, not
// whether a port is free or a file can be read.
func (s *Serve) Validate() error {
	var faults []error
	check := func(key string, err error) {
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", key, err))
		}
	}
	if s.HTTPAddr != None {
		check("http-addr", checkAddr(s.HTTPAddr, ":80"))
	}
	check("https-addr", checkAddr(s.HTTPSAddr, ":443"))
	if sameListener(s.HTTPAddr, s.HTTPSAddr) {
		check("https-addr", fmt.Errorf("%s is taken by http-addr %s; use another port for one of them", s.HTTPSAddr, s.HTTPAddr))
	}
	_, err := s.Backend()
	check("http-fallback", err)
	if s.DataDir == "" {
		check("data-dir", errors.New("is empty; write the directory for all data, such as /var/lib/acmeproxy"))
	}
	check("store", checkStore(s.Store))
	check("hostname", checkHostname(s.Hostname))
	check("public-url", checkPublicURL(s.PublicURL))
	check("acme-directory-url", checkDirectoryURL(s.ACMEDirectoryURL))
	check("email", checkEmail(s.Email))
	switch {
	case s.EABKid != "" && s.EABHMACKeyFile == "":
		check("eab-hmac-key-file", errors.New("is missing; eab-kid needs it: set it to a file that holds the HMAC key from the CA"))
	case s.EABKid == "" && s.EABHMACKeyFile != "":
		check("eab-kid", errors.New("is missing; eab-hmac-key-file needs it: set it to the key identifier from the CA"))
	}
	s.validateChallenges(check)
	_, err = cert.ParseKeyType(s.KeyType)
	check("key-type", err)
	if _, err := s.CertificateSets(); err != nil {
		faults = append(faults, err)
	}
	check("max-client-certificates", checkCertificates(s.MaxClientCertificates))
	check("default-daily-quota", checkQuota(s.DefaultDailyQuota))
	if err := s.Files.Validate(); err != nil {
		faults = append(faults, err)
	}
	_, err = parseLevel(s.LogLevel)
	check("log-level", err)
	check("log-format", checkFormat(s.LogFormat))
	return s.Locate(errors.Join(faults...))
}

// checkAddr requires host:port. The host may be empty, an IP address or a DNS name. The
// port must be a number.
func checkAddr(addr, example string) error {
	host, port, err := net.SplitHostPort(addr)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err == nil && host != "" && !strings.EqualFold(host, "localhost") {
		_, err = cert.ParseName(withoutZone(host))
	}
	if err != nil || strings.HasPrefix(host, "*") {
		return fmt.Errorf("%q is not an address to listen on; write host:port, such as %s or 192.0.2.1%s", addr, example, example)
	}
	return nil
}

func withoutZone(host string) string {
	host, _, _ = strings.Cut(host, "%")
	return host
}

// sameListener reports whether two addresses cannot be bound at the same time. Port 0
// is a different free port each time.
func sameListener(a, b string) bool {
	hostA, portA, errA := splitAddr(a)
	hostB, portB, errB := splitAddr(b)
	if errA != nil || errB != nil || portA != portB || portA == 0 {
		return false
	}
	return hostA == hostB || covers(hostA, hostB) || covers(hostB, hostA)
}

func splitAddr(addr string) (host string, port uint64, err error) {
	host, text, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, err
	}
	port, err = strconv.ParseUint(text, 10, 16)
	return strings.ToLower(host), port, err
}

// covers reports whether a is a wildcard address that includes host. Go listens on
// both families for "" and "::".
func covers(a, host string) bool {
	if a == "" {
		return true
	}
	wildcard, err := netip.ParseAddr(a)
	if err != nil || !wildcard.IsUnspecified() {
		return false
	}
	other, err := netip.ParseAddr(host)
	return wildcard.Is6() || err != nil || other.Unmap().Is4()
}

func checkHostname(hostname string) error {
	if hostname == "" {
		return nil
	}
	const remedy = "write the public DNS name of this host alone, such as acmeproxy.example.com"
	if strings.ContainsAny(hostname, "/:@") && !cert.IsIP(hostname) {
		return fmt.Errorf("%q is not a DNS name; %s", hostname, remedy)
	}
	name, err := cert.ParseName(hostname)
	switch {
	case err != nil:
		return err
	case cert.IsIP(name):
		return fmt.Errorf("%s is an IP address; %s", hostname, remedy)
	case cert.IsWildcard(name):
		return fmt.Errorf("%s is a wildcard; %s", hostname, remedy)
	}
	return nil
}

// checkPublicURL accepts https://HOST[:PORT] in lower case, which enrolment tokens and the
// URLs of the ACME door begin with.
func checkPublicURL(public string) error {
	const remedy = "write it like https://acmeproxy.example.com or https://acmeproxy.example.com:8443"
	if public == "" {
		return nil
	}
	u, err := url.Parse(public)
	if err != nil || u.Scheme != "https" || u.User != nil || u.String() != "https://"+u.Host || !canBeHost(u.Hostname()) {
		return fmt.Errorf("not an https:// URL with a host alone; %s", remedy) // do not repeat it: it may have a password
	}
	if name, err := cert.ParseName(u.Hostname()); err != nil || name != u.Hostname() || cert.IsWildcard(name) {
		return fmt.Errorf("%q is not a host in lower case; %s", u.Hostname(), remedy)
	}
	if n, err := strconv.ParseUint(u.Port(), 10, 16); strings.HasSuffix(u.Host, ":") || u.Port() != "" && (err != nil || n == 0) {
		return fmt.Errorf("%s has no port between 1 and 65535; %s", public, remedy)
	}
	if u.Port() == "443" { // clients leave it out, so their requests would be for another URL
		return fmt.Errorf("%s has the usual port; leave out :443", public)
	}
	return nil
}

// checkDirectoryURL refuses URLs that can never work. RFC 8555, section 6.1, requires
// https, even on the same host.
func checkDirectoryURL(directory string) error {
	u, err := url.Parse(directory)
	if err != nil || !canBeHost(u.Hostname()) || u.User != nil || u.Fragment != "" || u.Opaque != "" {
		// Do not repeat a URL, which may contain a password.
		return fmt.Errorf("not the URL of an ACME directory; write it like %s", LetsEncrypt)
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return fmt.Errorf("%s has no port between 1 and 65535; write it like %s", directory, LetsEncrypt)
		}
	}
	switch u.Scheme {
	case "https":
		return nil
	case "http":
		return fmt.Errorf("%s is not encrypted; write https://, which every ACME server requires", directory)
	}
	return fmt.Errorf("%s is not an https:// URL; write it like %s", directory, LetsEncrypt)
}

// canBeHost reports whether host is an address or has valid labels.
func canBeHost(host string) bool {
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	labels := strings.Split(strings.TrimSuffix(host, "."), ".")
	last := labels[len(labels)-1]
	return len(host) <= 254 && strings.Trim(last, "0123456789") != "" && !strings.ContainsAny(host, " *%,;\"'") &&
		!slices.ContainsFunc(labels, func(label string) bool { return label == "" || len(label) > 63 })
}

func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.Unmap().IsLoopback()
}

// checkStore requires a URL whose secrets can be recognized.
func checkStore(store string) error {
	if store == "" {
		return nil
	}
	if !dsn.Is(store) {
		// Do not repeat it, because it may be a URL with a password in it.
		return errors.New("not the URL of a PostgreSQL database; write it like " + dsn.Example + ", or remove it to use SQLite in the data directory")
	}
	_, err := dsn.Parse(store)
	return err
}

// checkEmail requires one address without a name. It becomes a mailto URL (RFC 8555
// section 7.3), which may hold neither several addresses nor header fields.
func checkEmail(email string) error {
	if email == "" {
		return nil
	}
	if parsed, err := mail.ParseAddress(email); err != nil || parsed.Address != email || strings.ContainsAny(email, "?,&\" ") {
		return fmt.Errorf("%q is not a plain e-mail address; write one, such as ops@example.com", email)
	}
	return nil
}
