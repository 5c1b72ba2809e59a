package preflight

import "net/netip"

// VerdictOnAddress spares a test the public Internet.
func VerdictOnAddress(addr string) Check {
	return new(Checker).verdictOnAddresses(addr, []netip.Addr{netip.MustParseAddr(addr)})
}

// ParseIssue is fuzzed.
func ParseIssue(value string) (domain string, params int, ok bool) {
	domain, all, ok := parseIssue(value)
	return domain, len(all), ok
}
