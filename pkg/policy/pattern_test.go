package policy

import (
	"net"
	"regexp"
	"strings"
	"testing"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
)

// A22
func TestPatternMatches(t *testing.T) {
	for _, tc := range []struct {
		pattern string
		yes, no []string
	}{
		{
			"web1.example.com",
			[]string{"web1.example.com", "WEB1.Example.COM", "web1.example.com."},
			[]string{"", "web2.example.com", "a.web1.example.com", "example.com", "*.example.com", "*.web1.example.com", "xweb1.example.com", "web1.example.com.evil.example", "web1.example.co"},
		},
		{"WEB1.Example.COM.", []string{"web1.example.com"}, []string{"web1.example"}},
		{
			"*.example.com",
			[]string{"a.example.com", "A.EXAMPLE.COM.", "xn--bcher-kva.example.com", "bücher.example.com"},
			[]string{"example.com", "a.b.example.com", "*.example.com", "*.a.example.com", "aexample.com", "a.example.com.example", ".example.com", "a.example.org", "192.0.2.1"},
		},
		{
			"**.example.com",
			[]string{"a.example.com", "a.b.example.com", "a.b.c.d.example.com"},
			[]string{"example.com", "*.example.com", "*.a.example.com", "aexample.com", "a..example.com", ".example.com"},
		},
		{"wildcard:example.com", []string{"*.example.com", "*.EXAMPLE.com."}, []string{"example.com", "a.example.com", "*.a.example.com", "*.*.example.com", "**.example.com"}},
		{"WildCard:Example.com", []string{"*.example.com"}, []string{"example.com"}},
		{"wildcard:*.example.com", []string{"*.a.example.com"}, []string{"*.example.com", "*.a.b.example.com", "a.example.com", "a.b.example.com"}},
		{"wildcard:**.example.com", []string{"*.a.example.com", "*.a.b.example.com"}, []string{"*.example.com", "a.example.com", "a.b.example.com"}},
		{"Bücher.example", []string{"xn--bcher-kva.example", "BÜCHER.example", "bücher.example."}, []string{"bucher.example"}},
		{"*.bücher.example", []string{"a.xn--bcher-kva.example"}, []string{"xn--bcher-kva.example"}},
		{"xn--bcher-kva.example", []string{"bücher.example"}, nil},
		{"192.0.2.0/24", []string{"192.0.2.0", "192.0.2.255", "::ffff:192.0.2.7", "::ffff:c000:207"}, []string{"192.0.3.0", "::c000:207", "192.0.2.1.example.com", "192.0.2", "192.0.2.01", "0xc0000201", "*.192.0.2.1"}},
		{"::ffff:192.0.2.0/120", []string{"192.0.2.9"}, []string{"192.0.3.9"}},
		{"192.0.2.1", []string{"192.0.2.1", "::ffff:192.0.2.1"}, []string{"192.0.2.10", "192.0.2.1."}},
		{"::ffff:192.0.2.1", []string{"192.0.2.1"}, []string{"192.0.2.2"}},
		{"2001:db8::/32", []string{"2001:DB8::1", "2001:db8:0:0:0:0:0:2"}, []string{"2001:db9::1", "192.0.2.1", "2001:db8::1%eth0", "[2001:db8::1]"}},
		{"**.private.github.io", []string{"a.private.github.io"}, nil},
	} {
		p, err := ParsePattern(tc.pattern)
		if err != nil {
			t.Errorf("%s: %v", tc.pattern, err)
			continue
		}
		for _, name := range tc.yes {
			if !p.Matches(name) {
				t.Errorf("%s does not match %q", tc.pattern, name)
			}
		}
		for _, name := range tc.no {
			if p.Matches(name) {
				t.Errorf("%s matches %q", tc.pattern, name)
			}
		}
		if again, err := ParsePattern(p.String()); err != nil || again != p {
			t.Errorf("%s: %s reads back as %v, %v", tc.pattern, p, again, err)
		}
	}
	// No canonical name has an empty label; if one came, it would be no label below.
	for _, pattern := range []string{"*.example.com", "**.example.com"} {
		if p, err := ParsePattern(pattern); err != nil || p.matches(".example.com") {
			t.Errorf("%s matches an empty label (%v)", pattern, err)
		}
	}
	var zero Pattern
	for _, name := range []string{"", "a.example", "*.example.com", "192.0.2.1"} {
		if zero.Matches(name) {
			t.Errorf("the zero pattern matches %q", name)
		}
	}
}

func TestParsePatternRefuses(t *testing.T) {
	for pattern, want := range map[string]string{
		"":                                       "empty pattern; write",
		"*":                                      "write *.example.com",
		"**":                                     "write *.example.com",
		"wildcard:":                              "write a DNS name",
		"wildcard:*":                             "write *.example.com",
		"wildcard:wildcard:a.b":                  "write",
		"*.com":                                  "top-level domain; write a domain of your own, such as *.example.com",
		"**.com.":                                "top-level domain",
		"*.internal":                             "top-level domain",
		"wildcard:com":                           "top-level domain",
		"*.co.uk":                                "public suffix co.uk; write a domain of your own, such as *.example.co.uk",
		"**.CO.UK":                               "public suffix co.uk",
		"wildcard:co.uk":                         "public suffix co.uk",
		"wildcard:**.co.uk":                      "public suffix co.uk",
		"**.kawasaki.jp":                         "public suffix kawasaki.jp",
		"com":                                    "one label only",
		"a*.example.com":                         "has a * in a place where it is not allowed",
		"a.*.example.com":                        "has a * in a place where it is not allowed",
		"*.*.example.com":                        "has a * in a place where it is not allowed",
		"***.example.com":                        "has a * in a place where it is not allowed",
		"**.**.example.com":                      "has a * in a place where it is not allowed",
		"*example.com":                           "has a * in a place where it is not allowed",
		"*.":                                     "write a DNS name",
		"*..example.com":                         "is not a DNS name",
		" web1.example.com":                      "white space",
		"a.example b.example":                    "white space",
		"a.example\nb.example":                   "white space",
		"a.example,b.example":                    "is not a DNS name",
		"*.192.0.2.1":                            "mixes an IP address",
		"**.2.1":                                 "ends in a number",
		"wildcard:192.0.2.1":                     "mixes an IP address",
		"wildcard:192.0.2.0/24":                  "is not a DNS name",
		"*.2001:db8::1":                          "mixes an IP address",
		"192.0.2.1/24":                           "write 192.0.2.0/24 for the network",
		"192.0.2.0/33":                           "is not a network",
		"192.0.2/24":                             "is not a network",
		"web1.example.com/24":                    "is not a network",
		"0.0.0.0/0":                              "covers too much of the Internet",
		"::/0":                                   "covers too much of the Internet",
		"10.0.0.0/7":                             "covers too much of the Internet",
		"::ffff:0.0.0.0/96":                      "covers too much of the Internet",
		"::ffff:0:0/95":                          "mixes IPv4 and IPv6",
		"fe80::1%eth0":                           "zone",
		"fe80::%eth0/64":                         "has a zone",
		strings.Repeat("a", 64) + ".example.com": "is not a DNS name",
		strings.Repeat("a.", 600) + "example.com": "too long",
	} {
		p, err := ParsePattern(pattern)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.50q: %v; want %q", pattern, err, want)
		}
		if p != (Pattern{}) {
			t.Errorf("%.50q: a refused pattern is not zero", pattern)
		}
	}
}

// reference is a second matcher, slow and plain, for canonical names.
func reference(t testing.TB, pattern, name string) bool {
	t.Helper()
	if _, err := ParsePattern(pattern); err != nil {
		return false
	}
	if ip := net.ParseIP(name); ip != nil {
		if _, network, err := net.ParseCIDR(pattern); err == nil {
			return network.Contains(ip)
		}
		other := net.ParseIP(pattern)
		return other != nil && other.Equal(ip)
	}
	expr := "^"
	if len(pattern) > 9 && strings.EqualFold(pattern[:9], "wildcard:") {
		pattern, expr = pattern[9:], `^\*\.`
	}
	switch {
	case strings.HasPrefix(pattern, "**."):
		pattern, expr = pattern[3:], expr+`([^.*]+\.)+`
	case strings.HasPrefix(pattern, "*."):
		pattern, expr = pattern[2:], expr+`[^.*]+\.`
	}
	base, err := cert.ParseName(pattern)
	return err == nil && regexp.MustCompile(expr+regexp.QuoteMeta(base)+"$").MatchString(name)
}

func FuzzParsePattern(f *testing.F) {
	for _, s := range []string{
		"web1.example.com", "*.example.com", "**.Example.com.", "wildcard:*.bücher.example", "192.0.2.0/24",
		"::ffff:192.0.2.0/120", "2001:db8::1", "*.com", "wildcard:co.uk", "xn--bcher-kva.example", "a。example",
	} {
		f.Add(s, "a.example.com")
		f.Add(s, "*.example.com")
		f.Add(s, "192.0.2.1")
	}
	f.Fuzz(func(t *testing.T, pattern, name string) {
		p, err := ParsePattern(pattern)
		if err != nil {
			if p != (Pattern{}) || p.Matches(name) {
				t.Errorf("%q is refused and matches", pattern)
			}
			return
		}
		again, err := ParsePattern(p.String())
		if err != nil || again != p {
			t.Errorf("%q: %s reads back as %v, %v", pattern, p, again, err)
		}
		for _, stranger := range []string{"stranger.com", "*.com", "*.co.uk", "stranger.co.uk", "198.51.100.77", "2a00::77"} {
			if p.Matches(stranger) && !strings.HasSuffix(p.base, stranger) && !p.network.IsValid() {
				t.Errorf("%q reaches %s", pattern, stranger)
			}
		}
		canonical, err := cert.ParseName(name)
		if err != nil {
			if p.Matches(name) {
				t.Errorf("%q matches %q, which is no name", pattern, name)
			}
			return
		}
		if got, want := p.Matches(name), reference(t, pattern, canonical); got != want {
			t.Errorf("%q and %q: %v, the reference says %v", pattern, name, got, want)
		}
		if cert.IsWildcard(canonical) && p.Matches(name) && !p.wildcard {
			t.Errorf("%q matches the wildcard %q", pattern, name)
		}
	})
}
