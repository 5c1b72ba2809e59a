package acmeserver

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
)

// parseIdentifiers returns the identifiers of newOrder in lower case, and each of them
// once. Both keep the client's order. An error is a problem.
func parseIdentifiers(in []acme.Identifier, most int) (all, distinct []acme.Identifier, err error) {
	switch {
	case len(in) == 0:
		return nil, nil, problem(acme.Malformed, 0, "identifiers: the list is empty; send at least one")
	case len(in) > most:
		return nil, nil, problem(acme.Malformed, 0,
			fmt.Sprintf("identifiers: %d are too many for one order; send at most %d", len(in), most))
	}
	var refused []acme.Subproblem
	for _, id := range in {
		id.Value = lower(id.Value)
		if kind, detail := checkIdentifier(id); kind != "" {
			id.Type, id.Value = cut(id.Type, 64), cut(id.Value, 256)
			refused = append(refused, acme.Subproblem{Type: kind, Detail: detail, Identifier: id})
			continue
		}
		all = append(all, id)
		if !slices.Contains(distinct, id) {
			distinct = append(distinct, id)
		}
	}
	if len(refused) > 0 {
		return nil, nil, refuseIdentifiers(refused)
	}
	return all, distinct, nil
}

// maxName is the length of the longest DNS name in bytes.
const maxName = 253

// checkIdentifier returns the type and the detail of a problem, or nothing for a
// canonical identifier.
func checkIdentifier(id acme.Identifier) (kind, detail string) {
	if id.Type != acme.TypeDNS && id.Type != acme.TypeIP {
		return acme.UnsupportedIdentifier, fmt.Sprintf("the type %q is unknown; use dns or ip", cut(id.Type, 64))
	}
	if len(id.Value) > maxName {
		return acme.RejectedIdentifier, fmt.Sprintf("%q… is too long; a DNS name has at most %d bytes", id.Value[:32], maxName)
	}
	addr, err := netip.ParseAddr(id.Value)
	switch isIP := err == nil; {
	case isIP && id.Type == acme.TypeDNS:
		return acme.RejectedIdentifier, fmt.Sprintf("%q is an IP address; use the type ip", addr)
	case !isIP && id.Type == acme.TypeIP:
		return acme.RejectedIdentifier, fmt.Sprintf("%q is no IP address; use the type dns for names", cut(id.Value, 256))
	}
	canonical, err := cert.ParseName(id.Value)
	switch {
	case err != nil:
		return acme.RejectedIdentifier, err.Error()
	case canonical != id.Value:
		return acme.RejectedIdentifier, fmt.Sprintf("%q is not the canonical form; write %s", cut(id.Value, 256), canonical)
	}
	return "", ""
}

// refuseIdentifiers returns a problem with a subproblem for each refused identifier.
func refuseIdentifiers(refused []acme.Subproblem) *acme.Problem {
	var details []string
	p := problem(refused[0].Type, 0, "")
	for _, r := range refused {
		details = append(details, r.Detail)
		if r.Type != p.Type {
			p.Type = acme.RejectedIdentifier
		}
	}
	p.Detail, p.Subproblems = "identifiers: "+some(details), refused
	return p
}

// some joins the first details of a problem: some clients do not show subproblems.
func some(details []string) string {
	const most = 3
	if more := len(details) - most; more > 0 {
		return fmt.Sprintf("%s; and %d more", strings.Join(details[:most], "; "), more)
	}
	return strings.Join(details, "; ")
}

// lower maps ASCII letters only. Unicode maps the Kelvin sign to k, for example.
func lower(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}

// names returns the values of identifiers as a name set. They are canonical.
func names(ids []acme.Identifier) cert.Names {
	set := make(cert.Names, len(ids))
	for i, id := range ids {
		set[i] = id.Value
	}
	slices.Sort(set)
	return slices.Compact(set)
}

// full returns the identifier as in the order, with "*." of a wildcard.
func (a *Authorization) full() acme.Identifier {
	id := a.Identifier
	if a.Wildcard {
		id.Value = "*." + id.Value
	}
	return id
}

// identifiersOf returns the identifiers of canonical names.
func identifiersOf(names []string) []acme.Identifier {
	ids := make([]acme.Identifier, 0, len(names))
	for _, name := range names {
		kind := acme.TypeDNS
		if cert.IsIP(name) {
			kind = acme.TypeIP
		}
		ids = append(ids, acme.Identifier{Type: kind, Value: name})
	}
	return ids
}
