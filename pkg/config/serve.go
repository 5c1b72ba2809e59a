package config

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/mail"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
)

// LetsEncrypt is the default CA.
const LetsEncrypt = "https://acme-v02.api.letsencrypt.org/directory"

// Serve is the proxy's configuration. Its fields are the flags of acmeproxy
// serve, which its help explains.
type Serve struct {
	HTTPAddr                string   // host:port
	HTTPSAddr               string   // host:port
	DataDir                 string   // a path
	Hostname                string   // a DNS name; empty: not known
	ACMEDirectoryURL        string   // https
	Email                   string   // may be empty
	AcceptTOS               bool     //
	EABKid                  string   // with EABHMACKeyFile, or both empty
	EABHMACKeyFile          string   // a path
	Domains                 []string // each entry one certificate, commas between its names
	KeyType                 string   // one of cert.KeyTypes
	CertificateObtainedHook string   // for /bin/sh -c; empty: none
	LogLevel                string   // debug, info, warn, error
	LogFormat               string   // text, json
}

// DefaultServe is what holds when nothing is set.
func DefaultServe() Serve {
	return Serve{
		HTTPAddr:         ":80",
		HTTPSAddr:        ":443",
		DataDir:          DefaultDataDir(),
		ACMEDirectoryURL: LetsEncrypt,
		KeyType:          string(cert.EC256),
		LogLevel:         "info",
		LogFormat:        "text",
	}
}

// DefaultDataDir is /var/lib/acmeproxy for root, else the user's state
// directory (XDG Base Directory Specification).
func DefaultDataDir() string {
	if os.Geteuid() == 0 {
		return "/var/lib/acmeproxy"
	}
	if state := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(state) {
		return filepath.Join(state, "acmeproxy")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		home = "/"
	}
	return filepath.Join(home, ".local", "state", "acmeproxy")
}

// Validate reports every fault, each with its key and what to write instead.
func (s *Serve) Validate() error {
	var faults []error
	check := func(key string, err error) {
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", key, err))
		}
	}
	check("http-addr", checkAddr(s.HTTPAddr))
	check("https-addr", checkAddr(s.HTTPSAddr))
	check("https-addr", checkDistinct(s.HTTPAddr, s.HTTPSAddr))
	if s.DataDir == "" {
		check("data-dir", errors.New("must not be empty"))
	}
	check("hostname", checkHostname(s.Hostname))
	check("acme-directory-url", checkDirectoryURL(s.ACMEDirectoryURL))
	check("email", checkEmail(s.Email))
	if (s.EABKid == "") != (s.EABHMACKeyFile == "") {
		check("eab-kid", errors.New("set eab-kid and eab-hmac-key-file together, or neither"))
	}
	_, err := cert.ParseKeyType(s.KeyType)
	check("key-type", err)
	_, err = s.CertificateSets()
	if err != nil {
		faults = append(faults, err)
	}
	_, err = NewLogger(io.Discard, s.LogLevel, s.LogFormat)
	if err != nil {
		faults = append(faults, err)
	}
	return errors.Join(faults...)
}

func checkAddr(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%q is no host:port; write it like :80 or 192.0.2.1:80", addr)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return fmt.Errorf("%q has no port between 0 and 65535", addr)
	}
	if strings.ContainsAny(host, "/ ") {
		return fmt.Errorf("%q is no host:port; leave https:// and paths out", addr)
	}
	return nil
}

// checkDistinct leaves equal ports on unlike hosts to the system.
func checkDistinct(a, b string) error {
	if _, port, err := net.SplitHostPort(a); err == nil && port != "0" && a == b {
		return fmt.Errorf("%q is http-addr, too; each needs a port of its own", b)
	}
	return nil
}

func checkHostname(name string) error {
	if name == "" {
		return nil
	}
	if strings.ContainsAny(name, "/:") {
		return fmt.Errorf("%q must be a name only, such as acmeproxy.example.com", name)
	}
	canonical, err := cert.ParseName(name)
	if err != nil {
		return err
	}
	if cert.IsIP(canonical) || cert.IsWildcard(canonical) {
		return fmt.Errorf("%q must be a DNS name, such as acmeproxy.example.com", name)
	}
	return nil
}

func checkDirectoryURL(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
		return fmt.Errorf("%q is no https URL; ACME needs one, such as %s", s, LetsEncrypt)
	}
	return nil
}

func checkEmail(s string) error {
	if s == "" {
		return nil
	}
	a, err := mail.ParseAddress(s)
	if err != nil || a.Address != s {
		return fmt.Errorf("%q is no plain address; write it like ops@example.com", s)
	}
	return nil
}

// CertificateSets are the certificates of Domains. Every fault is reported.
func (s *Serve) CertificateSets() ([]cert.Names, error) {
	var sets []cert.Names
	var faults []error
	seen := map[string]bool{}
	for _, entry := range s.Domains {
		var names []string
		for name := range strings.SplitSeq(entry, ",") {
			names = append(names, strings.TrimSpace(name))
		}
		set, err := cert.ParseNames(names...)
		switch {
		case err != nil:
			faults = append(faults, fmt.Errorf("domain: %w", err))
		case seen[set.Key()]:
			faults = append(faults, fmt.Errorf("domain: %q is there twice; leave one out", set.String()))
		default:
			seen[set.Key()] = true
			sets = append(sets, set)
		}
	}
	return sets, errors.Join(faults...)
}

// Needs says what is missing before anything can be ordered, each with the
// flag to set. Nil: nothing.
func (s *Serve) Needs() []string {
	var needs []string
	if !s.AcceptTOS {
		needs = append(needs, "the CA's terms of service: read them, then set --accept-tos")
	}
	if s.Hostname == "" {
		needs = append(needs, "this host's public name, for the API's certificate and enrolment tokens: set --hostname")
	}
	return needs
}

// NewLogger writes structured lines to w: text for people, json for machines.
func NewLogger(w io.Writer, level, format string) (*slog.Logger, error) {
	levels := map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}
	l, ok := levels[level]
	if !ok {
		return nil, fmt.Errorf("log-level: %q is none; write debug, info, warn or error", level)
	}
	opts := &slog.HandlerOptions{Level: l}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, opts)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, opts)), nil
	}
	return nil, fmt.Errorf("log-format: %q is none; write text or json", format)
}
