package dnsupdate

import (
	"context"
	"fmt"
	"strings"

	"github.com/miekg/dns"
)

// zone finds the zone that has a name, as this server sees it: it need not be
// the public one, and may have views.
func (c *Client) zone(ctx context.Context, server, name string) (string, error) {
	if len(c.cfg.Zones) > 0 {
		return c.configuredZone(name)
	}
	var refused error
	for _, i := range dns.Split(name) {
		m := new(dns.Msg).SetQuestion(name[i:], dns.TypeSOA)
		m.RecursionDesired = false // what it has itself counts
		answer, err := c.exchange(ctx, server, m)
		if err != nil {
			return "", err
		}
		if answer.Rcode != dns.RcodeSuccess && answer.Rcode != dns.RcodeNameError {
			if refused == nil { // a name above may be answered
				refused = fmt.Errorf("%s does not say which zone has %s: %w", server, name, c.refusal(answer.Rcode))
			}
			continue
		}
		zone, others := authority(answer, name)
		switch {
		case zone != "":
			return zone, nil
		case others != "":
			return "", fmt.Errorf("%s does not have %s, only a reference to the name servers of %s; name one of these in %s", server, name, others, envServers)
		}
	}
	if refused != nil {
		return "", refused
	}
	return "", fmt.Errorf("%s has no zone for %s; name its primary in %s, or the zone in %s", server, name, envServers, envZones)
}

// configuredZone is the longest one.
func (c *Client) configuredZone(name string) (string, error) {
	longest := ""
	for _, zone := range c.cfg.Zones {
		if dns.IsSubDomain(zone, name) && len(zone) > len(longest) {
			longest = zone
		}
	}
	if longest == "" {
		return "", fmt.Errorf("%s is in none of the zones of %s (%s); add its zone, or leave that variable out", name, envZones, strings.Join(c.cfg.Zones, ", "))
	}
	return longest, nil
}

// authority reads where a zone that has the name begins: from the answer if the
// question was for just that, else from what proves that there is nothing (RFC
// 2308). In place of it there may be a reference to others, to whom a zone was
// delegated.
func authority(answer *dns.Msg, name string) (zone, others string) {
	for _, rr := range append(answer.Answer, answer.Ns...) {
		owner := dns.CanonicalName(rr.Header().Name)
		if !dns.IsSubDomain(owner, name) {
			continue // where an alias leads
		}
		switch rr.Header().Rrtype {
		case dns.TypeSOA:
			return owner, ""
		case dns.TypeNS:
			others = owner
		}
	}
	return "", others
}
