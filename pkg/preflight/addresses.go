package preflight

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/acmeproxy/acmeproxy/pkg/dnsquery"
	"github.com/acmeproxy/acmeproxy/pkg/publicip"
)

// addresses looks up the IPv4 and IPv6 addresses of the name.
func (c *Checker) addresses(ctx context.Context, name string) ([]netip.Addr, Check) {
	v4, err4 := c.lookup(ctx, name, dns.TypeA)
	v6, err6 := c.lookup(ctx, name, dns.TypeAAAA)
	addrs := slices.Concat(v4, v6)
	for _, err := range []error{err4, err6} {
		if ignoreNoSuchName(err) == nil {
			continue
		}
		check := c.verdictOnLookup(err)
		if len(addrs) == 0 {
			return addrs, check
		}
		// CAs continue with the addresses that they got.
		found := c.verdictOnAddresses(name, addrs)
		check.Verdict, check.Detail = Warning, found.Detail+"; half of the lookup fails: "+check.Detail
		if found.Remedy != "" {
			check.Remedy, check.By = found.Remedy, found.By
		}
		return addrs, check
	}
	switch {
	case len(addrs) > 0:
		return addrs, c.verdictOnAddresses(name, addrs)
	case errors.Is(err4, errNoSuchName):
		return nil, Check{
			Check: DNS, Verdict: Fails, Detail: "DNS has no such name",
			Remedy: "check the spelling, or add an A record (and an AAAA record for IPv6) with the proxy's public address",
		}
	}
	return nil, Check{
		Check: DNS, Verdict: Fails, Detail: "the name has no address",
		Remedy: "add an A record (and an AAAA record for IPv6) with the proxy's public address",
	}
}

// ignoreNoSuchName returns err, or nil if it reports that the name does not exist.
func ignoreNoSuchName(err error) error {
	if errors.Is(err, errNoSuchName) {
		return nil
	}
	return err
}

func (c *Checker) lookup(ctx context.Context, name string, qtype uint16) ([]netip.Addr, error) {
	records, err := c.ask(ctx, name, qtype)
	var addrs []netip.Addr
	for _, rr := range records {
		var addr netip.Addr
		switch rr := rr.(type) {
		case *dns.A:
			addr, _ = netip.AddrFromSlice(rr.A.To4())
		case *dns.AAAA:
			addr, _ = netip.AddrFromSlice(rr.AAAA.To16())
		}
		if addr.IsValid() {
			addrs = append(addrs, addr)
		}
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	return slices.Compact(addrs), err
}

// verdictOnLookup returns the verdict on a question without a usable answer.
func (c *Checker) verdictOnLookup(err error) Check {
	check := Check{Check: DNS, Verdict: Fails, Detail: err.Error(), By: ProxyAdmin}
	var refused *dnsquery.RcodeError
	switch {
	case !errors.As(err, &refused):
		check.Remedy = "check the network of the proxy's host, or use another resolver with " + c.cfg.ResolverSetting
	case refused.Rcode == dns.RcodeServerFailure:
		check.By, check.Remedy = NameOwner, "the name's own DNS servers do not answer, or its DNSSEC signatures are wrong; fix them, because a CA sees the same"
	default:
		check.Remedy = "use a resolver that answers the proxy's host with " + c.cfg.ResolverSetting
	}
	return check
}

// isHidden reports whether the report must not show an address of a name. A CNAME can
// lead to a name that only the proxy's resolver knows.
func (c *Checker) isHidden(name string, addr netip.Addr) bool {
	return c.cfg.Refuse != nil && c.cfg.Refuse(addr) != "" && name != addr.String()
}

// verdictOnAddresses returns a warning if no public CA can reach an address.
func (c *Checker) verdictOnAddresses(name string, addrs []netip.Addr) Check {
	check := Check{Check: DNS, Verdict: OK}
	var all, kinds []string
	for _, addr := range addrs {
		s := addr.String()
		if c.isHidden(name, addr) {
			s = "an address that is not shown"
		}
		if kind := publicip.Special(addr); kind != "" {
			s += " (" + kind + ")"
			kinds = append(kinds, s)
		}
		all = append(all, s)
	}
	all = slices.Compact(all)
	check.Detail = strings.Join(all[:min(len(all), maxAddresses)], ", ")
	if len(all) > maxAddresses {
		check.Detail += ", …"
	}
	if len(kinds) > 0 {
		check.Verdict = Warning
		check.Remedy = "a public CA cannot reach it; set the proxy's public address in public DNS, or if only internal DNS has this address, use a public resolver with " + c.cfg.ResolverSetting + " 9.9.9.9:53"
	}
	return check
}
