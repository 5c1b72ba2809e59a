// Package publicip classifies IP addresses: on the public Internet, or special, such as
// those of private networks. A program that connects where others ask it to needs this.
//
//	if kind := publicip.Special(addr); kind != "" {
//		return fmt.Errorf("not connected to: %s", kind)
//	}
//
// It connects to nothing and knows no routes.
package publicip

import "net/netip"

// ranges lists addresses outside the public Internet that netip does not know (RFC 6890
// and its registries).
var ranges = map[netip.Prefix]string{
	netip.MustParsePrefix("100.64.0.0/10"):   "carrier-grade NAT",
	netip.MustParsePrefix("192.0.2.0/24"):    "for documentation only",
	netip.MustParsePrefix("198.51.100.0/24"): "for documentation only",
	netip.MustParsePrefix("203.0.113.0/24"):  "for documentation only",
	netip.MustParsePrefix("2001:db8::/32"):   "for documentation only",
	netip.MustParsePrefix("3fff::/20"):       "for documentation only",
	netip.MustParsePrefix("198.18.0.0/15"):   "for benchmarks only",
	netip.MustParsePrefix("240.0.0.0/4"):     "reserved",
	netip.MustParsePrefix("0.0.0.0/8"):       "this network",
	netip.MustParsePrefix("192.0.0.0/24"):    "for protocols only",
	netip.MustParsePrefix("192.88.99.0/24"):  "a relay",
	// These lead to an IPv4 address, which may be private.
	netip.MustParsePrefix("64:ff9b::/96"):   "translated IPv4",
	netip.MustParsePrefix("64:ff9b:1::/48"): "translated IPv4",
	netip.MustParsePrefix("2002::/16"):      "tunnelled IPv4",
	netip.MustParsePrefix("2001::/32"):      "tunnelled IPv4",
	netip.MustParsePrefix("::/96"):          "embedded IPv4",
	netip.MustParsePrefix("fec0::/10"):      "site-local",
	netip.MustParsePrefix("100::/64"):       "discarded",
}

// Special returns why an address is not on the public Internet, or an empty string if
// it is.
func Special(addr netip.Addr) string {
	addr = addr.Unmap()
	switch {
	case addr.IsLoopback():
		return "loopback"
	case addr.IsPrivate():
		return "private"
	case addr.IsLinkLocalUnicast():
		return "link-local"
	case addr.IsMulticast():
		return "multicast"
	case addr.IsUnspecified():
		return "unspecified"
	}
	for prefix, kind := range ranges {
		if prefix.Contains(addr) {
			return kind
		}
	}
	return ""
}
