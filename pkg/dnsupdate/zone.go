package dnsupdate

import (
	"context"
	"fmt"
	"strings"

	"github.com/miekg/dns"
)

// zone returns the zone that has a name, as this server sees it. The server may not be
// public, and may have views.
func (c *Client) zone(ctx context.Context, server, name string) (string, error) {
	if len(c.cfg.Zones) > 0 {
		return c.configuredZone(name)
	}
	var refused error
	for _, i := range dns.Split(name) {
		m := new(dns.Msg).SetQuestion(name[i:], dns.TypeSOA)
		m.RecursionDesired = false // only its own zones count
		answer, err := c.exchange(ctx, server, m)
		if err != nil {
			return "", err
		}
		if answer.Rcode != dns.RcodeSuccess && answer.Rcode != dns.RcodeNameError {
			if refused == nil { // the server may answer for a parent name
				refused = fmt.Errorf("%s does not return the zone of %s: %w", server, name, c.refusal(answer.Rcode))
			}
			continue
		}
		zone, others := authority(answer, name)
		switch {
		case zone != "":
			return zone, nil
		case others != "":
			return "", fmt.Errorf("%s does not have %s, only a referral to the name servers of %s; set one of these in %s", server, name, others, envServers)
		}
	}
	if refused != nil {
		return "", refused
	}
	return "", fmt.Errorf("%s has no zone for %s; set its primary in %s, or the zone in %s", server, name, envServers, envZones)
}

// configuredZone returns the longest configured zone that has the name.
func (c *Client) configuredZone(name string) (string, error) {
	longest := ""
	for _, zone := range c.cfg.Zones {
		if dns.IsSubDomain(zone, name) && len(zone) > len(longest) {
			longest = zone
		}
	}
	if longest == "" {
		return "", fmt.Errorf("%s is in none of the zones of %s (%s); add its zone, or unset that variable", name, envZones, strings.Join(c.cfg.Zones, ", "))
	}
	return longest, nil
}

// authority returns the zone that has the name, from the answer's start of authority or
// from the one that proves a negative answer (RFC 2308). If the answer is a referral
// instead, it returns the delegated zone as others.
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
