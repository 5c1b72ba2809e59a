package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
)

// Request is what a client asks for.
type Request struct {
	Mode clients.Mode
	// Names are all identifiers of the certificate; of a CSR, all that it holds.
	Names cert.Names
	// KeyType is the type of the certificate's key; of a CSR, its key's. A
	// grant that lists key types never covers the empty one.
	KeyType cert.KeyType
	// Purpose says which parts of a grant count.
	Purpose Purpose
}

// Purpose is what a request is for.
type Purpose int

// The purposes of a request.
const (
	// Issuance asks for a certificate: all of a grant counts.
	Issuance Purpose = iota
	// Renewal is the proxy's own: the client does not call, so its network does
	// not count.
	Renewal
	// Revocation is of a certificate whose key the client has proven to hold: modes
	// and key types do not count.
	Revocation
)

// Decision is what a client may have.
type Decision struct {
	// Quota is how many requests a day the client has through the grants that cover
	// the request: the highest of their quotas, 0 if one of them has none.
	Quota int
}

// Denied is a refusal. It may be shown to the client, and says nothing of
// other clients.
type Denied struct {
	// Field of the request that is at fault: "names", "mode", "key_type",
	// "source" (the client's address) or "client".
	Field string
	// Reason says what is wrong and what to do.
	Reason string
	// Ungranted are the names that no grant of the client covers, in any mode.
	// Reason mentions no other names.
	Ungranted cert.Names
}

// Error returns the field and the reason.
func (d *Denied) Error() string { return d.Field + ": " + d.Reason }

// ForClient returns the whole text, which the client may read.
func (d *Denied) ForClient() string { return d.Error() }

// Decide decides whether the client may have what it asks for. One of its grants
// must cover all of it: every name, the mode, the key type and the address that
// the client calls from, as far as they count for the purpose. The error is a
// *Denied that explains the grant that came nearest.
func Decide(id clients.Identity, r Request) (Decision, error) {
	names, err := cert.ParseNames(r.Names...)
	if err != nil {
		return Decision{}, &Denied{Field: "names", Reason: err.Error()}
	}
	if id.Client.Disabled {
		return Decision{}, &Denied{Field: "client", Reason: fmt.Sprintf("client %q is disabled; ask the proxy's administrator to enable it", id.Client.Name)}
	}
	if len(id.Client.Grants) == 0 {
		return Decision{}, &Denied{Field: "client", Reason: fmt.Sprintf("client %q has no grants; ask the proxy's administrator to add one", id.Client.Name), Ungranted: names}
	}
	var (
		nearest   miss
		covering  []clients.Grant
		ungranted = names
	)
	for i, g := range id.Client.Grants {
		m := check(g, id, r, names)
		if m.isNone() {
			covering = append(covering, g)
		}
		if i == 0 || m.isNearer(nearest) {
			nearest = m
		}
		ungranted = intersect(ungranted, m.names)
	}
	if len(covering) == 0 {
		return Decision{}, nearest.denied(id, r, names, ungranted)
	}
	return Decision{Quota: quota(covering)}, nil
}

// quota returns the highest of the quotas, 0 if one of the grants has none.
func quota(grants []clients.Grant) int {
	highest := 0
	for _, g := range grants {
		if g.DailyQuota <= 0 {
			return 0
		}
		highest = max(highest, g.DailyQuota)
	}
	return highest
}

// AllowFrom decides whether the client may change anything of its own from the
// address it calls from: it may if one of its grants is for that network. The
// error is a *Denied.
func AllowFrom(id clients.Identity) error {
	here := func(g clients.Grant) bool { return len(g.Networks) == 0 || within(g.Networks, id.Addr) }
	if len(id.Client.Grants) == 0 || slices.ContainsFunc(id.Client.Grants, here) {
		return nil
	}
	return &Denied{Field: "source", Reason: fmt.Sprintf("client %q may not do this from %s; call from one of the networks of its grants, or ask the proxy's administrator", id.Client.Name, id.Addr)}
}

// Holds reports whether a client keeps a name that it has a certificate for in
// agent mode, when another client asks for it: it does while it is not disabled
// and a grant covers the name in that mode.
func Holds(c clients.Client, name string) bool {
	return !c.Disabled && slices.ContainsFunc(c.Grants, func(g clients.Grant) bool {
		return slices.ContainsFunc(g.Modes, clients.Mode.OwnsNames) && len(uncovered(g.Names, cert.Names{name})) == 0
	})
}

// miss is how far a request is from a grant.
type miss struct {
	names                 cert.Names // those that the grant does not cover
	mode, keyType, source bool
}

func check(g clients.Grant, id clients.Identity, r Request, names cert.Names) miss {
	m := miss{names: uncovered(g.Names, names)}
	if r.Purpose != Revocation {
		m.mode = !slices.Contains(g.Modes, r.Mode)
		m.keyType = len(g.KeyTypes) > 0 && !slices.Contains(g.KeyTypes, string(r.KeyType))
	}
	if r.Purpose != Renewal {
		m.source = len(g.Networks) > 0 && !within(g.Networks, id.Addr)
	}
	return m
}

func (m miss) isNone() bool {
	return len(m.names) == 0 && !m.mode && !m.keyType && !m.source
}

// isNearer prefers the grant that lacks fewer names, then the one with fewer
// other faults.
func (m miss) isNearer(o miss) bool {
	if len(m.names) != len(o.names) {
		return len(m.names) < len(o.names)
	}
	return m.others() < o.others()
}

func (m miss) others() int {
	n := 0
	for _, fault := range []bool{m.mode, m.keyType, m.source} {
		if fault {
			n++
		}
	}
	return n
}

// denied puts the first fault of the nearest grant into words.
func (m miss) denied(id clients.Identity, r Request, names, ungranted cert.Names) *Denied {
	d := &Denied{Ungranted: ungranted}
	client := id.Client.Name
	switch {
	case len(ungranted) > 0:
		d.Field = "names"
		d.Reason = notGranted(client, ungranted)
	case len(m.names) > 0:
		d.Field = "names"
		d.Reason = fmt.Sprintf("no single grant of client %q covers all %d names; ask for them in separate certificates, or ask the proxy's administrator to put them into one grant", client, len(names))
	case m.mode:
		d.Field = "mode"
		d.Reason = fmt.Sprintf("mode %q is not granted to client %q for these names; ask the proxy's administrator to allow it", r.Mode, client)
	case m.keyType:
		d.Field = "key_type"
		d.Reason = fmt.Sprintf("key type %q is not granted to client %q for these names; use another one, or ask the proxy's administrator to allow it", r.KeyType, client)
	default:
		from := "an unknown address"
		if id.Addr.IsValid() {
			from = id.Addr.String()
		}
		d.Field = "source"
		d.Reason = fmt.Sprintf("client %q may not ask for these names from %s; ask the proxy's administrator to allow its network", client, from)
	}
	return d
}

// notGranted names a few of the names: an answer is no place for a hundred.
func notGranted(client string, names cert.Names) string {
	const most = 3
	shown, verb, them := strings.Join(names[:min(most, len(names))], ", "), "are", "them"
	if len(names) > most {
		shown += fmt.Sprintf(" and %d more", len(names)-most)
	}
	if len(names) == 1 {
		verb, them = "is", "it"
	}
	reason := fmt.Sprintf("%s %s not granted to client %q; ask the proxy's administrator to add %s", shown, verb, client, them)
	if i := slices.IndexFunc(names[:min(most, len(names))], cert.IsWildcard); i >= 0 {
		reason += fmt.Sprintf(" (a wildcard needs a pattern such as %s%s)", wildcardPrefix, strings.TrimPrefix(names[i], "*."))
	}
	return reason
}

// uncovered returns the names that no pattern matches. Patterns that cannot be
// read match nothing.
func uncovered(patterns []string, names cert.Names) cert.Names {
	parsed := make([]Pattern, 0, len(patterns))
	for _, s := range patterns {
		if p, err := ParsePattern(s); err == nil {
			parsed = append(parsed, p)
		}
	}
	var missing cert.Names
	for _, name := range names {
		if !slices.ContainsFunc(parsed, func(p Pattern) bool { return p.matches(name) }) {
			missing = append(missing, name)
		}
	}
	return missing
}

// within tells whether one of the networks holds the address. A network that
// cannot be read holds none.
func within(networks []string, addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	return slices.ContainsFunc(networks, func(s string) bool {
		prefix, ok, err := parsePrefix(s)
		return ok && err == nil && prefix.Contains(addr)
	})
}

// intersect keeps the names of a that are also in b; both are sorted.
func intersect(a, b cert.Names) cert.Names {
	var both cert.Names
	for _, name := range a {
		if _, found := slices.BinarySearch(b, name); found {
			both = append(both, name)
		}
	}
	return both
}
