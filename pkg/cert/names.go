package cert

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// MaxNames is the maximum number of identifiers of one certificate. It is Let's
// Encrypt's limit; more would fail later, at the CA.
const MaxNames = 100

// maxName is the length of the longest DNS name in bytes (RFC 1035, section 2.3.4).
const maxName = 253

// Names holds the canonical identifiers of one certificate, sorted and without
// repetition. DNS names are lower case and ASCII (IDNA), a wildcard is
// "*.example.com", IP addresses are in netip's form. The zero value is the empty
// set, which no certificate may have.
type Names []string

// ParseNames returns the name set of identifiers in any spelling. The error names
// the invalid value and the correct form.
func ParseNames(in ...string) (Names, error) {
	names := make(Names, 0, len(in))
	for _, s := range in {
		name, err := ParseName(s)
		if err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	switch {
	case len(names) == 0:
		return nil, fmt.Errorf("no name given; write at least one DNS name, such as web1.example.com")
	case len(names) > MaxNames:
		return nil, fmt.Errorf("%d names are too many for one certificate; the limit is %d", len(names), MaxNames)
	}
	return names, nil
}

// lookupProfile maps to lower case ASCII and enforces the rules of a hostname.
var lookupProfile = idna.New(
	idna.MapForLookup(),
	idna.BidiRule(),
	idna.VerifyDNSLength(true),
	idna.StrictDomainName(true),
)

// ParseName returns the canonical form of one identifier: a DNS name, a wildcard,
// or an IP address.
func ParseName(s string) (string, error) {
	if s == "" {
		return "", fmt.Errorf("empty name; write a DNS name, such as web1.example.com")
	}
	if len(s) > 4*maxName { // an IDNA name may shrink, but not this much
		return "", fmt.Errorf("name of %d bytes is too long; a DNS name has at most %d", len(s), maxName)
	}
	if addr, err := netip.ParseAddr(s); err == nil {
		if addr.Zone() != "" {
			return "", fmt.Errorf("%q: an address with a zone cannot be in a certificate; write %s", s, addr.WithZone(""))
		}
		return addr.Unmap().String(), nil
	}
	if !utf8.ValidString(s) {
		return "", fmt.Errorf("%q is not UTF-8; write it like web1.example.com", s)
	}
	base, wildcard := strings.CutPrefix(s, "*.")
	ascii, err := lookupProfile.ToASCII(base)
	if err != nil {
		return "", fmt.Errorf("%q is not a DNS name; write it like web1.example.com", s)
	}
	ascii = strings.TrimSuffix(ascii, ".") // only after the mapping, which turns other full stops into this one
	labels := strings.Split(ascii, ".")
	last := labels[len(labels)-1]
	switch {
	case last == "":
		return "", fmt.Errorf("%q is not a DNS name; write it like web1.example.com", s)
	case len(labels) < 2:
		return "", fmt.Errorf("%q has one label only; write a full name, such as %s.example.com", s, ascii)
	case strings.Trim(last, "0123456789") == "":
		return "", fmt.Errorf("%q ends in a number, so it is neither a DNS name nor an IP address", s)
	}
	if wildcard {
		ascii = "*." + ascii
	}
	if len(ascii) > maxName {
		return "", fmt.Errorf("%q is too long; a DNS name has at most %d bytes", s, maxName)
	}
	return ascii, nil
}

// IsIP reports whether a canonical identifier is an IP address (RFC 8738).
func IsIP(name string) bool {
	_, err := netip.ParseAddr(name)
	return err == nil
}

// IsWildcard reports whether a canonical identifier is a wildcard.
func IsWildcard(name string) bool { return strings.HasPrefix(name, "*.") }

// Key returns the set as one string, "a.example,b.example". Equal sets have equal
// keys.
func (n Names) Key() string { return strings.Join(n, ",") }

// Covers reports whether a certificate for the names is valid for a host name.
func (n Names) Covers(name string) bool {
	_, parent, _ := strings.Cut(name, ".")
	return slices.Contains(n, name) || parent != "" && slices.Contains(n, "*."+parent)
}

// Equal reports whether both sets hold the same identifiers.
func (n Names) Equal(o Names) bool { return slices.Equal(n, o) }

// String returns the names separated by blanks, for display.
func (n Names) String() string { return strings.Join(n, " ") }

// few returns at most three names, for an error message.
func (n Names) few() string {
	const most = 3
	if len(n) <= most {
		return n.String()
	}
	return fmt.Sprintf("%s and %d more", n[:most], len(n)-most)
}
