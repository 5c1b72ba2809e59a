package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/acmeproxy/acmeproxy/pkg/cert"

	"golang.org/x/net/publicsuffix"
)

const wildcardPrefix = "wildcard:"

// The widest networks that a pattern may name: the private 10.0.0.0/8 and
// fc00::/7. Wider ones cover a good part of the Internet.
const (
	minBits4 = 8
	minBits6 = 7
)

// depth is the number of labels below its base that a pattern matches.
type depth int

const (
	exact    depth = iota // the base itself
	oneLabel              // "*.": one label below the base
	anyDepth              // "**.": one or more labels below the base
)

// Pattern is a set of identifiers that a grant names. The zero value matches
// nothing. Patterns can be compared with ==.
type Pattern struct {
	base     string // canonical DNS name; "" for a network
	depth    depth
	wildcard bool         // matches "*.X" where the rest matches X
	network  netip.Prefix // invalid for DNS names
}

// ParsePattern reads a pattern of a grant:
//
//	web1.example.com     that name
//	*.example.com        any name one label below example.com
//	**.example.com       any name below example.com, at any depth
//	wildcard:P           the wildcard *.X, for each X that the DNS pattern P matches
//	192.0.2.0/24         the IP addresses in it
//	192.0.2.1            that IP address
//
// Only a "wildcard:" pattern matches a wildcard. Names are converted to the
// canonical form of package cert. The error names the fault and the remedy.
func ParsePattern(s string) (Pattern, error) {
	if s == "" {
		return Pattern{}, errors.New("empty pattern; write a name such as web1.example.com, or *.example.com")
	}
	if strings.ContainsFunc(s, unicode.IsSpace) {
		return Pattern{}, fmt.Errorf("%q contains white space; write each pattern separately", s)
	}
	if dns, ok := cutPrefixFold(s, wildcardPrefix); ok {
		p, err := parseDNS(dns, true)
		if err != nil {
			return Pattern{}, fmt.Errorf("%s %w", wildcardPrefix, err)
		}
		return p, nil
	}
	prefix, ok, err := parsePrefix(s)
	if err != nil {
		return Pattern{}, err
	}
	if !ok {
		return parseDNS(s, false)
	}
	if err := narrowEnough(prefix); err != nil {
		return Pattern{}, err
	}
	return Pattern{network: prefix}, nil
}

// parseDNS reads a DNS pattern, or the part of a pattern after "wildcard:".
func parseDNS(s string, wildcard bool) (Pattern, error) {
	p := Pattern{wildcard: wildcard}
	base := s
	if rest, ok := strings.CutPrefix(s, "**."); ok {
		p.depth, base = anyDepth, rest
	} else if rest, ok := strings.CutPrefix(s, "*."); ok {
		p.depth, base = oneLabel, rest
	}
	if strings.Contains(base, "*") {
		return Pattern{}, fmt.Errorf("%q has a * in a place where it is not allowed; write *.example.com, **.example.com or a full name", s)
	}
	reaches := p.depth != exact || p.wildcard
	// ParseName reports a domain that cannot be printed, and quotes it.
	if tld := strings.TrimSuffix(base, "."); reaches && tld != "" && !strings.ContainsAny(tld, ".:") && printable(tld) {
		return Pattern{}, fmt.Errorf("%q covers a whole top-level domain; write a domain of your own, such as *.example.%s", s, tld)
	}
	name, err := cert.ParseName(base)
	if err != nil {
		return Pattern{}, err
	}
	if cert.IsIP(name) {
		return Pattern{}, fmt.Errorf("%q mixes an IP address with a pattern of names; write the address or its network alone, such as 192.0.2.0/24", s)
	}
	p.base = name
	if reaches && publicBelow(name) {
		return Pattern{}, fmt.Errorf("%q covers the whole public suffix %s; write a domain of your own, such as *.example.%s", s, name, name)
	}
	return p, nil
}

func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// publicBelow reports whether the public can register names one or two labels below
// a domain. Suffixes from the list's private section do not count, because they may
// belong to the organisation itself.
func publicBelow(domain string) bool {
	for _, d := range []string{domain, "any-label." + domain} {
		if suffix, icann := publicsuffix.PublicSuffix(d); icann && suffix == d {
			return true
		}
	}
	return false
}

// parsePrefix reads an address or a network. It returns ok false if s is neither.
// IPv4-mapped IPv6 addresses become IPv4.
func parsePrefix(s string) (prefix netip.Prefix, ok bool, err error) {
	if addr, err := netip.ParseAddr(s); err == nil {
		if addr.Zone() != "" {
			return netip.Prefix{}, false, fmt.Errorf("%q has a zone; write the address without the part from the %% on", s)
		}
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), true, nil
	}
	if !strings.Contains(s, "/") {
		return netip.Prefix{}, false, nil
	}
	prefix, err = netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, false, fmt.Errorf("%q is not a network; write it like 192.0.2.0/24 or 2001:db8::/32", s)
	}
	if prefix.Addr().Is4In6() {
		if prefix.Bits() < 96 {
			return netip.Prefix{}, false, fmt.Errorf("%q mixes IPv4 and IPv6; write it like 192.0.2.0/24 or 2001:db8::/32", s)
		}
		prefix = netip.PrefixFrom(prefix.Addr().Unmap(), prefix.Bits()-96)
	}
	if prefix != prefix.Masked() {
		return netip.Prefix{}, false, fmt.Errorf("%q has bits beyond its length; write %s for the network, %s for the address", s, prefix.Masked(), prefix.Addr())
	}
	return prefix, true, nil
}

func narrowEnough(p netip.Prefix) error {
	least := minBits6
	if p.Addr().Is4() {
		least = minBits4
	}
	if p.Bits() < least {
		return fmt.Errorf("%q covers too much of the Internet; write a network of your own, /%d or longer", p, least)
	}
	return nil
}

// Matches reports whether the pattern covers an identifier. It returns false for an
// invalid one.
func (p Pattern) Matches(name string) bool {
	canonical, err := cert.ParseName(name)
	return err == nil && p.matches(canonical)
}

// matches reports whether the pattern covers a canonical identifier.
func (p Pattern) matches(name string) bool {
	if addr, err := netip.ParseAddr(name); err == nil {
		return p.network.IsValid() && p.network.Contains(addr)
	}
	if p.base == "" {
		return false
	}
	name, wildcard := strings.CutPrefix(name, "*.")
	if wildcard != p.wildcard {
		return false
	}
	if p.depth == exact {
		return name == p.base
	}
	below, ok := strings.CutSuffix(name, "."+p.base)
	return ok && below != "" && (p.depth == anyDepth || !strings.Contains(below, "."))
}

// String returns the canonical form. ParsePattern accepts it.
func (p Pattern) String() string {
	if p.network.IsValid() {
		if p.network.IsSingleIP() {
			return p.network.Addr().String()
		}
		return p.network.String()
	}
	s := [...]string{exact: "", oneLabel: "*.", anyDepth: "**."}[p.depth] + p.base
	if p.wildcard {
		return wildcardPrefix + s
	}
	return s
}

// cutPrefixFold removes a prefix as strings.CutPrefix does, but ignores case.
func cutPrefixFold(s, prefix string) (string, bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return s, false
	}
	return s[len(prefix):], true
}
