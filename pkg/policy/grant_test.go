package policy

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
)

// A22: a grant is refused with words that can be shown, or it allows exactly
// what a plain reading of it allows, however its patterns are spelled. Lists
// are divided by "|".
func FuzzValidateGrant(f *testing.F) {
	f.Add("web1.example.com|*.web1.example.com", "agent", "10.0.0.0/8", "ec256", 10, "shortlived|default", 2, "a.web1.example.com", "10.1.2.3", "agent", "ec256", "")
	f.Add("**.Example.com.|wildcard:*.bücher.example", "agent|gateway", "", "", 0, "shortlived", 1, "*.a.xn--bcher-kva.example|x.y.example.com", "", "gateway", "rsa2048", "shortlived")
	f.Add("192.0.2.0/24|::ffff:192.0.2.7|2001:db8::/32", "gateway", "::ffff:10.0.0.0/104|fe80::1", "ec384|rsa4096", 1, "", 0, "192.0.2.9", "::ffff:10.0.0.1", "gateway", "ec384", "tlsserver")
	f.Add("*.com|*|\x1b[31m|*.\x1b[31m|wildcard:\x00|*.\xff", "client", "any|10.1.0.0/8", "EC256", -1, "a b|", 101, "a.com", "x", "client", "", "\x1b")
	f.Add("a。example|*.a.example.", "acme", "0.0.0.0/0|::/0", "", 0, "default", 0, "a.example|b.a.example", "fe80::1%eth0", "acme", "", "default")
	f.Fuzz(func(t *testing.T, patterns, modes, networks, keyTypes string, quota int, profiles string, most int, names, addr, mode, keyType, profile string) {
		if len(patterns)+len(networks)+len(names) > 1024 {
			return
		}
		g := clients.Grant{Names: split(patterns), Modes: clients.AsModes(split(modes)), Networks: split(networks), KeyTypes: split(keyTypes), Profiles: split(profiles), MaxNames: most, DailyQuota: quota}
		if err := ValidateGrant(g); err != nil {
			checkWords(t, err)
			return
		}
		from, _ := netip.ParseAddr(addr)
		id := clients.Identity{Client: clients.Client{Name: "web1", Grants: []clients.Grant{g}}, Addr: from}
		r := Request{Mode: clients.Mode(mode), Names: split(names), KeyType: cert.KeyType(keyType), Profile: profile}
		got := allow(id, r)
		if want := plainly(g, from, r); (got == nil) != want {
			t.Errorf("grant %+v, request %+v from %s: %v, a plain reading says %v", g, r, from, got, want)
		}
		canonical := canonicalGrant(t, g)
		if err := ValidateGrant(canonical); err != nil {
			t.Errorf("%+v is the canonical form of %+v, and refused: %v", canonical, g, err)
		}
		if again := canonicalGrant(t, canonical); !slices.Equal(again.Names, canonical.Names) {
			t.Errorf("the canonical form of %q is %q", canonical.Names, again.Names)
		}
		id.Client.Grants[0] = canonical
		if err := allow(id, r); (err == nil) != (got == nil) {
			t.Errorf("patterns %q decide %v, %q decide %v", g.Names, got, canonical.Names, err)
		}
	})
}

func split(list string) []string {
	if list == "" {
		return nil
	}
	return strings.Split(list, "|")
}

// checkWords wants one line for each fault, each with its field, and nothing
// that a terminal would act on.
func checkWords(t *testing.T, err error) {
	t.Helper()
	for line := range strings.SplitSeq(err.Error(), "\n") {
		field, text, found := strings.Cut(line, ": ")
		if !found || text == "" || !slices.Contains([]string{"names", "modes", "networks", "key_types", "profiles", "max_names", "daily_quota"}, field) {
			t.Errorf("a line without its field: %q", line)
		}
		if strings.ContainsFunc(line, unicode.IsControl) || !utf8.ValidString(line) {
			t.Errorf("a line that is no plain text: %q", line)
		}
	}
}

func canonicalGrant(t *testing.T, g clients.Grant) clients.Grant {
	t.Helper()
	patterns := make([]string, 0, len(g.Names))
	for _, s := range g.Names {
		p, err := ParsePattern(s)
		if err != nil {
			t.Errorf("ValidateGrant takes %q, ParsePattern does not: %v", s, err)
		}
		patterns = append(patterns, p.String())
	}
	g.Names = patterns
	return g
}

// plainly decides for a valid grant with a simple second implementation.
func plainly(g clients.Grant, from netip.Addr, r Request) bool {
	names, err := cert.ParseNames(r.Names...)
	if err != nil || !slices.Contains(g.Modes, r.Mode) {
		return false
	}
	if len(g.KeyTypes) > 0 && !slices.Contains(g.KeyTypes, string(r.KeyType)) {
		return false
	}
	profile := r.Profile
	if profile == "" {
		profile = "default"
	}
	if len(g.Profiles) > 0 && !slices.Contains(g.Profiles, profile) || g.MaxNames > 0 && len(names) > g.MaxNames {
		return false
	}
	if len(g.Networks) > 0 && !slices.ContainsFunc(g.Networks, func(n string) bool {
		return from.IsValid() && addressIn(n, net.ParseIP(from.WithZone("").String()))
	}) {
		return false
	}
	for _, name := range names {
		if !slices.ContainsFunc(g.Names, func(p string) bool { return covers(p, name) }) {
			return false
		}
	}
	return true
}

func addressIn(network string, ip net.IP) bool {
	if _, n, err := net.ParseCIDR(network); err == nil {
		return n.Contains(ip)
	}
	single := net.ParseIP(network)
	return single != nil && single.Equal(ip)
}

// covers compares label by label; name is canonical, pattern valid.
func covers(pattern, name string) bool {
	if ip := net.ParseIP(name); ip != nil {
		return addressIn(pattern, ip)
	}
	if net.ParseIP(pattern) != nil || strings.Contains(pattern, "/") {
		return false
	}
	prefix, rest, found := strings.Cut(pattern, ":")
	forWildcards := found && strings.EqualFold(prefix, "wildcard")
	if forWildcards {
		pattern = rest
	}
	least, most := 0, 0
	if rest, ok := strings.CutPrefix(pattern, "**."); ok {
		pattern, least, most = rest, 1, len(name)
	} else if rest, ok := strings.CutPrefix(pattern, "*."); ok {
		pattern, least, most = rest, 1, 1
	}
	base, err := idna.New(idna.MapForLookup()).ToASCII(pattern)
	if err != nil {
		return false
	}
	want := strings.Split(strings.TrimSuffix(strings.ToLower(base), "."), ".")
	have := strings.Split(name, ".")
	if (have[0] == "*") != forWildcards {
		return false
	}
	if forWildcards {
		have = have[1:]
	}
	below := len(have) - len(want)
	return below >= least && below <= most && slices.Equal(have[below:], want)
}
