package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/dnsprovider"
	"github.com/acmeproxy/acmeproxy/pkg/dnsquery"
)

// None is the HTTPAddr of a proxy without an HTTP-01 listener.
const None = "none"

// Values of Challenge and DNSPropagation. The first of each is the default.
var (
	challenges   = []string{acme.HTTP01, acme.TLSALPN01, acme.DNS01}
	propagations = []string{"nameservers", "resolvers", "none"}
	profileChars = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."
)

// validateChallenges checks all settings about the validation of names.
func (s *Serve) validateChallenges(check func(key string, err error)) {
	check("challenge", oneOf(s.Challenge, challenges))
	if s.DNSProvider != "" {
		check("dns-provider", oneOf(s.DNSProvider, dnsprovider.Names()))
	}
	check("dns-propagation", oneOf(s.DNSPropagation, propagations))
	switch {
	case s.Challenge == acme.DNS01 && s.DNSProvider == "":
		check("dns-provider", fmt.Errorf("is missing; challenge dns-01 needs it: use one of %s", strings.Join(dnsprovider.Names(), ", ")))
	case s.Challenge == acme.HTTP01 && s.HTTPAddr == None && s.HTTP01Webroot == "" && s.HTTP01Hook == "":
		check("http-addr", errors.New("with none, no listener answers http-01; use an address such as :80, set http-01-webroot, or use another challenge"))
	}
	if s.HTTPAddr == None && s.HTTPFallback != FallbackNotFound {
		check("http-fallback", errors.New("works only with an http-addr; set that, too, or remove this"))
	}
	if s.HTTP01Webroot != "" && s.HTTP01Hook != "" {
		check("http-01-hook", errors.New("cannot be combined with http-01-webroot; remove one of them"))
	}
	if s.DNSProvider == "" && s.SignConfig == "" && len(s.DNSResolvers) > 0 {
		check("dns-resolver", errors.New("works only with a dns-provider or a sign-config; set one, too, or remove this"))
	}
	if _, err := s.Resolvers(); err != nil {
		check("dns-resolver", err)
	}
	if _, err := s.CheckServers(); err != nil {
		check("check-resolver", err)
	}
	if strings.Trim(s.Profile, profileChars) != "" || len(s.Profile) > 64 {
		check("profile", errors.New("not the name of a profile; use one that the CA's directory lists, such as shortlived"))
	}
}

func oneOf(value string, known []string) error {
	if slices.Contains(known, value) {
		return nil
	}
	return fmt.Errorf("unknown value %q; use one of %s", value, strings.Join(known, ", "))
}

// Resolvers returns the DNSResolvers as host:port, or nil for the system's.
func (s *Serve) Resolvers() ([]string, error) { return parseServers(s.DNSResolvers) }

// CheckServers returns the CheckResolvers as host:port, or nil for the system's.
func (s *Serve) CheckServers() ([]string, error) { return parseServers(s.CheckResolvers) }

func parseServers(list []string) ([]string, error) {
	var all []string
	for _, entry := range list {
		server, err := dnsquery.ParseServer(entry)
		if err != nil {
			return nil, err
		}
		all = append(all, server)
	}
	return all, nil
}
