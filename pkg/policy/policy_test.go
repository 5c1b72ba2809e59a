package policy

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
)

func identity(addr string, grants ...clients.Grant) clients.Identity {
	id := clients.Identity{Client: clients.Client{ID: "1", Name: "web1", Grants: grants}}
	if addr != "" {
		id.Addr = netip.MustParseAddr(addr)
	}
	return id
}

// allow returns why a request is denied, or nil.
func allow(id clients.Identity, r Request) error {
	_, err := Decide(id, r)
	return err
}

// allowRenewal returns why a renewal by the proxy is denied, or nil.
func allowRenewal(id clients.Identity, r Request) error {
	r.Purpose = Renewal
	return allow(id, r)
}

// quotaFor returns the quota of a request, or 0 if it is denied.
func quotaFor(id clients.Identity, r Request) int {
	d, _ := Decide(id, r) // a request that is denied has no quota
	return d.Quota
}

func grant(patterns ...string) clients.Grant {
	return clients.Grant{Names: patterns, Modes: []clients.Mode{clients.ModeAgent}}
}

func request(names ...string) Request {
	return Request{Mode: clients.ModeAgent, Names: names, KeyType: cert.EC256}
}

func wantDenied(t *testing.T, err error, field string, texts ...string) *Denied {
	t.Helper()
	var d *Denied
	if !errors.As(err, &d) {
		t.Fatalf("error %v is no *Denied", err)
	}
	if d.Field != field {
		t.Errorf("field %q, want %q (%v)", d.Field, field, d)
	}
	for _, s := range append(texts, d.Field+": ") {
		if !strings.Contains(d.Error(), s) {
			t.Errorf("%q lacks %q", d, s)
		}
	}
	return d
}

// A22
func TestAllowNames(t *testing.T) {
	g := grant("a.example.com", "*.web.example.com", "wildcard:w.example.com", "192.0.2.0/24", "Bücher.example")
	for _, names := range [][]string{
		{"a.example.com"},
		{"A.Example.COM."},
		{"x.web.example.com", "a.example.com"},
		{"*.w.example.com"},
		{"192.0.2.1"},
		{"::ffff:192.0.2.1"},
		{"bücher.example"},
		{"XN--BCHER-KVA.example"},
		{"a.example.com", "x.web.example.com", "*.w.example.com", "192.0.2.9", "xn--bcher-kva.example"},
	} {
		if err := allow(identity("", g), request(names...)); err != nil {
			t.Errorf("%q: %v", names, err)
		}
	}
	for name, want := range map[string]string{
		"b.example":                  `names: b.example is not granted to client "web1"; ask the proxy's administrator to add it`,
		"web.example.com":            "web.example.com is not granted",
		"x.y.web.example.com":        "not granted",
		"w.example.com":              "not granted",
		"*.web.example.com":          "a wildcard needs a pattern such as wildcard:web.example.com",
		"*.x.web.example.com":        "wildcard:x.web.example.com",
		"192.0.3.1":                  "not granted",
		"2001:db8::1":                "not granted",
		"a.example.com.evil.example": "not granted",
	} {
		wantDenied(t, allow(identity("", g), request(name)), "names", want)
		d := wantDenied(t, allow(identity("", g), request("a.example.com", name)), "names", want)
		if !slices.Equal(d.Ungranted, cert.Names{name}) {
			t.Errorf("%s: ungranted are %q", name, d.Ungranted)
		}
	}
}

func TestAllowBadNames(t *testing.T) {
	g := grant("**.example.com")
	for _, names := range [][]string{nil, {}, {""}, {"a.example.com", ""}, {"a..example.com"}, {"*.*.example.com"}, {"**.example.com"}, {"wildcard:example.com"}, {"192.0.2.0/24"}, {"user@a.example.com"}, {"https://a.example.com"}, {"com"}} {
		wantDenied(t, allow(identity("", g), Request{Mode: clients.ModeAgent, Names: names, KeyType: cert.EC256}), "names")
		if quotaFor(identity("", g), request(names...)) != 0 {
			t.Errorf("%q has a quota", names)
		}
	}
	many := make([]string, cert.MaxNames+1)
	for i := range many {
		many[i] = fmt.Sprintf("h%d.example.com", i)
	}
	wantDenied(t, allow(identity("", g), request(many...)), "names", "too many")
	if err := allow(identity("", g), request(many[1:]...)); err != nil {
		t.Error(err)
	}
	d := wantDenied(t, allow(identity("", grant("a.example")), request(many[1:]...)), "names", " and 97 more are not granted")
	if len(d.Ungranted) != cert.MaxNames {
		t.Errorf("%d names are ungranted", len(d.Ungranted))
	}
}

// One grant must cover all of a request: there is no union of two.
func TestAllowOneGrant(t *testing.T) {
	a, b := grant("a.example"), grant("b.example")
	b.Modes = []clients.Mode{clients.ModeGateway}
	both := identity("", a, b)
	if err := allow(both, request("a.example")); err != nil {
		t.Error(err)
	}
	wantDenied(t, allow(both, request("b.example")), "mode", `mode "agent" is not granted to client "web1"`)
	r := request("a.example", "b.example")
	d := wantDenied(t, allow(both, r), "names", "no single grant", "separate certificates")
	if len(d.Ungranted) != 0 || strings.Contains(d.Reason, ".example") {
		t.Errorf("%v, ungranted %q", d, d.Ungranted)
	}
	d = wantDenied(t, allow(both, request("a.example", "b.example", "c.example")), "names", "c.example is not granted")
	if !slices.Equal(d.Ungranted, cert.Names{"c.example"}) || strings.Contains(d.Reason, "a.example") {
		t.Errorf("%v, ungranted %q", d, d.Ungranted)
	}
	if err := allow(identity("", a, b, grant("*.example.org", "a.example", "b.example")), r); err != nil {
		t.Error(err)
	}
}

func TestAllowOthers(t *testing.T) {
	full := clients.Grant{
		Names: []string{"a.example"}, Modes: []clients.Mode{clients.ModeGateway},
		KeyTypes: []string{"ec256", "rsa2048"}, Networks: []string{"192.0.2.0/24", "2001:db8::/32", "::ffff:203.0.113.0/120", "198.51.100.7"},
	}
	ok := Request{Mode: clients.ModeGateway, Names: cert.Names{"a.example"}, KeyType: cert.RSA2048}
	for _, addr := range []string{"192.0.2.77", "::ffff:192.0.2.77", "2001:db8::1", "203.0.113.1", "198.51.100.7", "2001:db8::1%eth0"} {
		if err := allow(identity(addr, full), ok); err != nil {
			t.Errorf("%s: %v", addr, err)
		}
	}
	for _, addr := range []string{"192.0.3.77", "::c000:207", "198.51.100.8", "127.0.0.1"} {
		wantDenied(t, allow(identity(addr, full), ok), "source", "from "+addr)
	}
	wantDenied(t, allow(identity("", full), ok), "source", "unknown address")
	for _, mode := range []clients.Mode{clients.ModeAgent, clients.ModeClient, "", "Gateway"} {
		r := ok
		r.Mode = mode
		wantDenied(t, allow(identity("192.0.2.77", full), r), "mode", fmt.Sprintf("%q", mode))
	}
	for _, k := range []cert.KeyType{cert.RSA4096, cert.EC384, ""} {
		r := ok
		r.KeyType = k
		wantDenied(t, allow(identity("192.0.2.77", full), r), "key_type", fmt.Sprintf("%q", k))
	}
	free := full
	free.KeyTypes, free.Networks = nil, nil
	ok.KeyType = cert.RSA8192
	if err := allow(identity("", free), ok); err != nil {
		t.Errorf("no key types and no networks mean any: %v", err)
	}
}

func TestAllowNothingGranted(t *testing.T) {
	wantDenied(t, allow(identity(""), request("a.example")), "client", "no grants")
	wantDenied(t, allow(identity("", clients.Grant{}), request("a.example")), "names")
	wantDenied(t, allow(identity("", clients.Grant{Names: []string{"a.example"}}), request("a.example")), "mode")
	off := identity("", grant("a.example"))
	off.Client.Disabled = true
	wantDenied(t, allow(off, request("a.example")), "client", "disabled")
}

// An invalid value grants nothing and does not remove the limit of its field.
func TestAllowDamagedGrant(t *testing.T) {
	wantDenied(t, allow(identity("", grant("", "*", "**", "*.com", "0.0.0.0/0", "[", " a.example")), request("a.example")), "names")
	g := grant("a.example")
	g.Networks = []string{"", "any", "0.0.0.0"}
	wantDenied(t, allow(identity("192.0.2.1", g), request("a.example")), "source")
	g = grant("a.example")
	g.KeyTypes = []string{""}
	wantDenied(t, allow(identity("", g), request("a.example")), "key_type")
}

// The refusal explains the grant that covers most of the request.
func TestAllowNearest(t *testing.T) {
	far := grant("other.example")
	names := grant("a.example", "b.example")
	names.Modes, names.KeyTypes, names.Networks = []clients.Mode{clients.ModeGateway}, []string{"rsa2048"}, []string{"192.0.2.0/24"}
	near := grant("a.example", "b.example")
	near.Networks = []string{"192.0.2.0/24"}
	for _, grants := range [][]clients.Grant{{far, names, near}, {near, names, far}, {names, near, far}} {
		wantDenied(t, allow(identity("127.0.0.1", grants...), request("a.example", "b.example")), "source", "127.0.0.1")
	}
}

// X20
func TestQuotaFor(t *testing.T) {
	small, large, free, other := grant("a.example", "b.example"), grant("a.example"), grant("c.example"), grant("d.example")
	small.DailyQuota, large.DailyQuota, other.DailyQuota = 10, 50, 1000
	id := identity("", small, large, free, other)
	for name, want := range map[string]int{"a.example": 50, "B.example": 10, "c.example": 0, "d.example": 1000} {
		if got := quotaFor(id, request(name)); got != want {
			t.Errorf("%s: %d, want %d", name, got, want)
		}
	}
	unlimited := identity("", small, grant("a.example"))
	if got := quotaFor(unlimited, request("a.example")); got != 0 {
		t.Errorf("quota %d although a grant has none", got)
	}
	if got := quotaFor(unlimited, request("a.example", "b.example")); got != 10 {
		t.Errorf("quota %d, want that of the only grant that covers all", got)
	}
}

func TestValidateGrant(t *testing.T) {
	good := clients.Grant{
		Names: []string{"a.example", "*.a.example", "**.b.example", "wildcard:a.example", "10.0.0.0/8", "fc00::/7"},
		Modes: []clients.Mode{clients.ModeAgent, clients.ModeGateway}, Networks: []string{"0.0.0.0/0", "::/0", "192.0.2.1"},
		KeyTypes: []string{"ec256", "rsa4096"}, Profiles: []string{"default", "shortlived"}, MaxNames: 100, DailyQuota: 10,
	}
	if err := ValidateGrant(good); err != nil {
		t.Error(err)
	}
	err := ValidateGrant(clients.Grant{
		Names: []string{"*.com", "a.example", "x\ny"}, Modes: []clients.Mode{"client"}, Networks: []string{"any", "10.1.0.0/8", ""},
		KeyTypes: []string{"EC256", "", "ed25519"}, Profiles: []string{"short lived", ""}, MaxNames: 101, DailyQuota: -1,
	})
	if err == nil {
		t.Fatal("all faults are accepted")
	}
	for _, want := range []string{
		`names: "*.com" covers a whole top-level domain`, `names: "x\ny" contains white space`,
		`modes: unknown mode "client"; write one or more of agent, gateway, acme`,
		`networks: "any" is not a network; write`, `networks: "10.1.0.0/8" has bits beyond its length; write 10.0.0.0/8`, `networks: "" is not a network`,
		`key_types: key type "EC256" is not in canonical form; write ec256`, `key_types: key type ""`, `key_types: unknown key type "ed25519"; write one of`,
		`profiles: "short lived" is not a profile`, `profiles: "" is not a profile`, "max_names: 101 is out of range",
		"daily_quota: -1 is negative",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in:\n%v", want, err)
		}
	}
	if n := strings.Count(err.Error(), "\n") + 1; n != 13 {
		t.Errorf("%d faults, want 13:\n%v", n, err)
	}
	err = ValidateGrant(clients.Grant{})
	if err == nil || !strings.Contains(err.Error(), "names: none given") || !strings.Contains(err.Error(), "modes: none given") {
		t.Errorf("empty grant: %v", err)
	}
}

// checkAllow compares Allow with the reference: it never allows what some
// name of the request has no matching pattern for in one grant.
func checkAllow(t *testing.T, grants [][]string, names []string) {
	t.Helper()
	id := identity("")
	for _, patterns := range grants {
		id.Client.Grants = append(id.Client.Grants, grant(patterns...))
	}
	canonical, err := cert.ParseNames(names...)
	want := err == nil && slices.ContainsFunc(grants, func(patterns []string) bool {
		return !slices.ContainsFunc(canonical, func(name string) bool {
			return !slices.ContainsFunc(patterns, func(p string) bool { return reference(t, p, name) })
		})
	})
	err = allow(id, request(names...))
	if (err == nil) != want {
		t.Errorf("grants %q, names %q: %v, the reference says %v", grants, names, err, want)
	}
	var d *Denied
	if err != nil && (!errors.As(err, &d) || d.Field == "" || d.Reason == "") {
		t.Errorf("grants %q, names %q: unexplained error %v", grants, names, err)
	}
}

// A22: a random walk where patterns and names often meet.
func TestAllowAgainstReference(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	labels := []string{"a", "b", "A", "xn--bcher-kva", "bücher", "*", "**", ""}
	bases := []string{"example.com", "a.example.com", "Example.COM.", "co.uk", "192.0.2.1", "192.0.2.0/24", "::ffff:192.0.2.0/120", "com"}
	pick := func(s []string) string { return s[rnd.IntN(len(s))] }
	word := func() string {
		s := pick(bases)
		for range rnd.IntN(3) {
			s = pick(labels) + "." + s
		}
		if rnd.IntN(5) == 0 {
			s = wildcardPrefix + s
		}
		return s
	}
	some := func(n int) []string {
		out := make([]string, 1+rnd.IntN(n))
		for i := range out {
			out[i] = word()
		}
		return out
	}
	for range 20_000 {
		grants := make([][]string, 1+rnd.IntN(3))
		for i := range grants {
			grants[i] = some(6)
		}
		checkAllow(t, grants, some(2))
		if t.Failed() {
			return
		}
	}
}

// Grants are divided by "|", their patterns and the names by blanks.
func FuzzAllow(f *testing.F) {
	f.Add("a.example.com *.b.example|192.0.2.0/24", "a.example.com x.b.example")
	f.Add("**.example.com wildcard:**.example.com", "*.a.example.com a.b.c.example.com")
	f.Add("a.example|b.example", "a.example b.example")
	f.Add("*.com * **", "a.com")
	f.Add("", "")
	f.Fuzz(func(t *testing.T, grants, names string) {
		if len(grants)+len(names) > 512 { // the reference is slow
			return
		}
		var lists [][]string
		for g := range strings.SplitSeq(grants, "|") {
			lists = append(lists, strings.Split(g, " "))
		}
		checkAllow(t, lists, strings.Split(names, " "))
	})
}

// One grant for the network that the client calls from is enough (A22).
func TestAllowFrom(t *testing.T) {
	t.Parallel()
	from := func(networks ...string) clients.Grant { return clients.Grant{Networks: networks} }
	for name, test := range map[string]struct {
		grants []clients.Grant
		want   bool
	}{
		"no grant":         {nil, true},
		"no network":       {[]clients.Grant{from("192.0.2.0/24"), from()}, true},
		"one of some":      {[]clients.Grant{from("192.0.2.0/24"), from("2001:db8::/32", "10.0.0.0/8")}, true},
		"none of these":    {[]clients.Grant{from("192.0.2.0/24"), from("2001:db8::/32")}, false},
		"a damaged prefix": {[]clients.Grant{from("10.0.0.0/99")}, false},
	} {
		id := clients.Identity{Client: clients.Client{Name: "web1", Grants: test.grants}, Addr: netip.MustParseAddr("10.1.2.3")}
		if err := AllowFrom(id); (err == nil) != test.want {
			t.Errorf("%s: %v", name, err)
		}
	}
}
