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

// None is the HTTPAddr of a proxy that leaves port 80 to somebody else.
const None = "none"

// The values of Challenge and DNSPropagation; the first one is the default.
var (
	challenges   = []string{acme.HTTP01, acme.TLSALPN01, acme.DNS01}
	propagations = []string{"nameservers", "resolvers", "none"}
	profileChars = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."
)

// validateChallenges looks at everything about how names are proven.
func (s *Serve) validateChallenges(check func(key string, err error)) {
	check("challenge", oneOf(s.Challenge, challenges))
	if s.DNSProvider != "" {
		check("dns-provider", oneOf(s.DNSProvider, dnsprovider.Names()))
	}
	check("dns-propagation", oneOf(s.DNSPropagation, propagations))
	switch {
	case s.Challenge == acme.DNS01 && s.DNSProvider == "":
		check("dns-provider", fmt.Errorf("is missing; challenge dns-01 needs it: write one of %s", strings.Join(dnsprovider.Names(), ", ")))
	case s.Challenge == acme.HTTP01 && s.HTTPAddr == None && s.HTTP01Webroot == "" && s.HTTP01Hook == "":
		check("http-addr", errors.New("none leaves nobody to answer http-01; write an address such as :80, set http-01-webroot, or choose another challenge"))
	}
	if s.HTTPAddr == None && s.HTTPFallback != FallbackNotFound {
		check("http-fallback", errors.New("is of use with an http-addr only; set that, too, or leave it out"))
	}
	if s.HTTP01Webroot != "" && s.HTTP01Hook != "" {
		check("http-01-hook", errors.New("is one way to answer http-01, http-01-webroot another; leave one of them out"))
	}
	if s.DNSProvider == "" && len(s.DNSResolvers) > 0 {
		check("dns-resolver", errors.New("is of use with a dns-provider only; set that, too, or leave it out"))
	}
	if _, err := s.Resolvers(); err != nil {
		check("dns-resolver", err)
	}
	if strings.Trim(s.Profile, profileChars) != "" || len(s.Profile) > 64 {
		check("profile", errors.New("not the name of a profile; the CA's directory lists them, such as shortlived"))
	}
}

func oneOf(value string, known []string) error {
	if slices.Contains(known, value) {
		return nil
	}
	return fmt.Errorf("there is no %q; write %s", value, strings.Join(known, ", "))
}

// Resolvers are the DNSResolvers as host:port; nil for the system's.
func (s *Serve) Resolvers() ([]string, error) {
	var all []string
	for _, entry := range s.DNSResolvers {
		server, err := dnsquery.ParseServer(entry)
		if err != nil {
			return nil, err
		}
		all = append(all, server)
	}
	return all, nil
}
