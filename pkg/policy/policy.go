package policy

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
)

// Request describes a certificate that a client requests.
type Request struct {
	Mode clients.Mode
	// Names holds all identifiers of the certificate or of the CSR.
	Names cert.Names
	// KeyType is the type of the key of the certificate or of the CSR. A grant that
	// lists key types never covers the empty type.
	KeyType cert.KeyType
	// Profile is the CA's profile that is requested. If empty, it is the CA's default,
	// which grants call clients.ProfileDefault.
	Profile string
	// Purpose selects the parts of a grant that count.
	Purpose Purpose
	// AnySource ignores networks, for an explanation that has no address.
	AnySource bool
}

// Purpose is the purpose of a request.
type Purpose int

// The purposes of a request.
const (
	// Issuance requests a certificate. All parts of a grant count.
	Issuance Purpose = iota
	// Order announces a request whose key is not known yet. Key types do not count.
	Order
	// Renewal is started by the proxy. Networks do not count, because the client does
	// not connect.
	Renewal
	// Revocation revokes a certificate whose key the client has proven to hold, or only
	// checks names. Modes, key types, profiles and the number of names do not count.
	Revocation
	// Proof answers a challenge of a CA for the client, whose certificate the proxy never
	// sees. Names, the mode and networks count.
	Proof
)

// Decision holds the limits of an allowed request.
type Decision struct {
	// Quota is the number of requests per day that the client has through the grants
	// that cover the request. It is the highest of their quotas, or 0 if one of them
	// has no quota.
	Quota int
}

// Denied reports that a request is denied. It may be shown to the client, and
// contains nothing about other clients.
type Denied struct {
	// Field is the field at fault: "names", "mode", "key_type", "profile", "source"
	// (the client's address) or "client".
	Field string
	// Reason describes the fault and the remedy.
	Reason string
	// Ungranted holds the names that no grant of the client covers, in any mode.
	// Reason contains no other names.
	Ungranted cert.Names
}

// Error returns the field and the reason.
func (d *Denied) Error() string { return d.Field + ": " + d.Reason }

// ForClient returns the text of Error, all of which the client may read.
func (d *Denied) ForClient() string { return d.Error() }

// Decide decides whether the client may make the request. One of its grants must
// cover every name, the mode, the key type and the client's address, as far as they
// count for the purpose. The error is a *Denied that explains the grant that covers
// most of the request.
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
		if m.isEmpty() {
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

// quota returns the highest quota of the grants, or 0 if one of them has no quota.
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

// AllowFrom decides whether the client may change its own data from its address.
// One of its grants must include that network. The error is a *Denied.
func AllowFrom(id clients.Identity) error {
	here := func(g clients.Grant) bool { return len(g.Networks) == 0 || Within(g.Networks, id.Addr) }
	if len(id.Client.Grants) == 0 || slices.ContainsFunc(id.Client.Grants, here) {
		return nil
	}
	return &Denied{Field: "source", Reason: fmt.Sprintf("client %q may not do this from %s; call from one of the networks of its grants, or ask the proxy's administrator", id.Client.Name, id.Addr)}
}

// Holds reports whether a client with an agent-mode certificate retains a name when
// another client requests it. It does while it is not disabled and a grant covers
// the name in that mode.
func Holds(c clients.Client, name string) bool {
	return !c.Disabled && slices.ContainsFunc(c.Grants, func(g clients.Grant) bool {
		return slices.ContainsFunc(g.Modes, clients.Mode.OwnsNames) && len(uncovered(g.Names, cert.Names{name})) == 0
	})
}

// miss lists the parts of a request that a grant does not cover.
type miss struct {
	names                 cert.Names // those that the grant does not cover
	most                  int        // the grant's number of names if the request has more, or 0
	mode, keyType, source bool
	profile               bool
}

func check(g clients.Grant, id clients.Identity, r Request, names cert.Names) miss {
	m := miss{names: uncovered(g.Names, names)}
	if r.Purpose != Revocation {
		m.mode = !slices.Contains(g.Modes, r.Mode)
	}
	if r.Purpose != Revocation && r.Purpose != Proof {
		m.keyType = r.Purpose != Order && len(g.KeyTypes) > 0 && !slices.Contains(g.KeyTypes, string(r.KeyType))
		m.profile = len(g.Profiles) > 0 && !slices.Contains(g.Profiles, cmp.Or(r.Profile, clients.ProfileDefault))
		if g.MaxNames > 0 && len(names) > g.MaxNames {
			m.most = g.MaxNames
		}
	}
	if r.Purpose != Renewal && !r.AnySource {
		m.source = len(g.Networks) > 0 && !Within(g.Networks, id.Addr)
	}
	return m
}

func (m miss) isEmpty() bool {
	return len(m.names) == 0 && m.others() == 0
}

// isNearer reports whether m lacks fewer names than o, or as many names and fewer
// other parts.
func (m miss) isNearer(o miss) bool {
	if len(m.names) != len(o.names) {
		return len(m.names) < len(o.names)
	}
	return m.others() < o.others()
}

func (m miss) others() int {
	n := 0
	for _, fault := range []bool{m.mode, m.keyType, m.profile, m.most > 0, m.source} {
		if fault {
			n++
		}
	}
	return n
}

// denied describes the first fault of the nearest grant.
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
	case m.profile:
		d.Field = "profile"
		d.Reason = notProfile(client, r.Profile)
	case m.most > 0:
		d.Field = "names"
		d.Reason = fmt.Sprintf("client %q may have at most %d in one certificate, not %d; ask for fewer, or ask the proxy's administrator to allow more", client, m.most, len(names))
	default:
		d.Field = "source"
		d.Reason = fmt.Sprintf("client %q may not ask for these names from %s; ask the proxy's administrator to allow its network", client, from(id))
	}
	return d
}

func from(id clients.Identity) string {
	if !id.Addr.IsValid() {
		return "an unknown address"
	}
	return id.Addr.String()
}

func notProfile(client, profile string) string {
	if profile == "" {
		return fmt.Sprintf("client %q may not leave the profile to the CA for these names; ask for one that is granted, or ask the proxy's administrator to allow %q", client, clients.ProfileDefault)
	}
	return fmt.Sprintf("profile %q is not granted to client %q for these names; use another one, or ask the proxy's administrator to allow it", acme.Shorten(profile), client)
}

// notGranted returns a reason that lists only the first names, to limit its length.
func notGranted(client string, names cert.Names) string {
	verb, them := "are", "them"
	if len(names) == 1 {
		verb, them = "is", "it"
	}
	reason := fmt.Sprintf("%s %s not granted to client %q; ask the proxy's administrator to add %s", few(names), verb, client, them)
	if i := slices.IndexFunc(names[:min(shown, len(names))], cert.IsWildcard); i >= 0 {
		reason += fmt.Sprintf(" (a wildcard needs a pattern such as %s%s)", wildcardPrefix, strings.TrimPrefix(names[i], "*."))
	}
	return reason
}

// shown is the number of names in a reason.
const shown = 3

func few(names cert.Names) string {
	text := strings.Join(names[:min(shown, len(names))], ", ")
	if len(names) > shown {
		text += fmt.Sprintf(" and %d more", len(names)-shown)
	}
	return text
}

// uncovered returns the names that no pattern matches. Invalid patterns match
// nothing.
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

// Within reports whether one of the networks contains the address. Invalid networks
// contain none.
func Within(networks []string, addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	return slices.ContainsFunc(networks, func(s string) bool {
		prefix, ok, err := parsePrefix(s)
		return ok && err == nil && prefix.Contains(addr)
	})
}

// intersect returns the names of a that are also in b. Both must be sorted.
func intersect(a, b cert.Names) cert.Names {
	var both cert.Names
	for _, name := range a {
		if _, found := slices.BinarySearch(b, name); found {
			both = append(both, name)
		}
	}
	return both
}
