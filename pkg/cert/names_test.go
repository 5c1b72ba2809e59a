package cert_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
)

// long is a DNS name of n bytes.
func long(n int) string {
	name := strings.Repeat(strings.Repeat("a", 49)+".", 6)[:n-len(".example")] + ".example"
	return strings.ReplaceAll(name, "..", "b.")
}

func TestParseName(t *testing.T) {
	for in, want := range map[string]string{
		"WWW.Example.COM":           "www.example.com",
		"www.example.com.":          "www.example.com",
		"www。example．com｡":          "www.example.com", // the other full stops of IDNA
		"Bücher.example":            "xn--bcher-kva.example",
		"bu\u0308cher.example":      "xn--bcher-kva.example",
		"XN--BCHER-KVA.example":     "xn--bcher-kva.example",
		"straße.example":            "xn--strae-oqa.example",
		"\u212aelvin.example":       "kelvin.example",
		"ｗｗｗ.example.com":           "www.example.com",
		"*.Example.com":             "*.example.com",
		"*.bücher.example.":         "*.xn--bcher-kva.example",
		"4.example":                 "4.example",
		"a-b.example":               "a-b.example",
		long(253):                   long(253),
		long(253) + ".":             long(253),
		"*." + long(251):            "*." + long(251),
		"192.0.2.1":                 "192.0.2.1",
		"2001:DB8:0:0::0:1":         "2001:db8::1",
		"::ffff:192.0.2.1":          "192.0.2.1",
		"::FFFF:C000:0201":          "192.0.2.1",
		"1.0.0.127.in-addr.example": "1.0.0.127.in-addr.example",
	} {
		got, err := cert.ParseName(in)
		if err != nil || got != want {
			t.Errorf("ParseName(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
}

func TestParseNameRefuses(t *testing.T) {
	for in, want := range map[string]string{
		"":                              "empty name",
		".":                             "not a DNS name",
		"*":                             "not a DNS name",
		"*.":                            "not a DNS name",
		"*.com":                         "one label",
		"localhost":                     "one label",
		"localhost.":                    "one label",
		"a..example":                    "not a DNS name",
		".example.com":                  "not a DNS name",
		"www.example.com..":             "not a DNS name",
		"a.*.example":                   "not a DNS name",
		"*.*.example.com":               "not a DNS name",
		"w*.example.com":                "not a DNS name",
		"＊.example.com":                 "not a DNS name",
		"_acme.example.com":             "not a DNS name",
		"-a.example.com":                "not a DNS name",
		"a-.example.com":                "not a DNS name",
		"a b.example.com":               "not a DNS name",
		" example.com":                  "not a DNS name",
		"example.com\n":                 "not a DNS name",
		"example.com,b.example":         "not a DNS name",
		"ex\x00ample.com":               "not a DNS name",
		"http://example.com":            "not a DNS name",
		"example.com:443":               "not a DNS name",
		"[2001:db8::1]":                 "not a DNS name",
		"xn--a.example":                 "not a DNS name", // not Punycode
		"a\xff.example.com":             "not UTF-8",
		"10.0.0":                        "ends in a number",
		"192.0.2.256":                   "ends in a number",
		"１９２.0.2.1":                     "ends in a number", // an address in disguise
		"example.123":                   "ends in a number",
		"192.0.2.0/24":                  "not a DNS name",
		"fe80::1%eth0":                  "zone",
		"::ffff:192.0.2.1%eth0":         "zone",
		"fe80::1%\x1b[2J":               "zone",
		strings.Repeat("a", 64) + ".de": "not a DNS name",
		long(254):                       "not a DNS name",
		"*." + long(252):                "too long",
		"*." + long(253):                "too long",
		strings.Repeat("a.", 600):       "too long",
	} {
		got, err := cert.ParseName(in)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseName(%q) = %q, %v; want an error with %q", in, got, err, want)
			continue
		}
		if strings.ContainsAny(err.Error(), "\x1b\n\x00") || !utf8.ValidString(err.Error()) {
			t.Errorf("ParseName(%q): the error %q has raw input", in, err)
		}
	}
}

func TestParseNames(t *testing.T) {
	got, err := cert.ParseNames("b.example", "A.example", "b.EXAMPLE.", "2001:db8::1", "::ffff:192.0.2.1", "*.a.example")
	want := cert.Names{"*.a.example", "192.0.2.1", "2001:db8::1", "a.example", "b.example"}
	if err != nil || !got.Equal(want) {
		t.Fatalf("%q, %v; want %q", got, err, want)
	}
	if got.Key() != "*.a.example,192.0.2.1,2001:db8::1,a.example,b.example" || got.String() != strings.Join(want, " ") {
		t.Errorf("key %q, string %q", got.Key(), got)
	}
	if got.Equal(want[1:]) || got.Equal(nil) {
		t.Error("different sets are equal")
	}
	var many []string
	for i := range cert.MaxNames {
		many = append(many, fmt.Sprintf("h%d.example", i))
	}
	if _, err := cert.ParseNames(append(many, "H0.example")...); err != nil {
		t.Errorf("%d names, one of them twice: %v", cert.MaxNames, err)
	}
	if _, err := cert.ParseNames(append(many, "one.more.example")...); err == nil || !strings.Contains(err.Error(), "limit is 100") {
		t.Errorf("101 names: %v", err)
	}
	if _, err := cert.ParseNames(); err == nil {
		t.Error("the empty set was accepted")
	}
	if got, err := cert.ParseNames("a.example", "b_c.example"); err == nil || got != nil || !strings.Contains(err.Error(), "b_c.example") {
		t.Errorf("%q, %v; want an error that names b_c.example", got, err)
	}
}

func TestKindsOfNames(t *testing.T) {
	for name, want := range map[string][2]bool{
		"a.example": {false, false}, "*.a.example": {false, true}, "192.0.2.1": {true, false}, "2001:db8::1": {true, false},
	} {
		if got := [2]bool{cert.IsIP(name), cert.IsWildcard(name)}; got != want {
			t.Errorf("%s: IP, wildcard = %v, want %v", name, got, want)
		}
	}
}

// checkCanonical reports whatever a policy decision or a file name could
// stumble over in an accepted name.
func checkCanonical(t *testing.T, name string) {
	t.Helper()
	if again, err := cert.ParseName(name); err != nil || again != name {
		t.Errorf("%q parses to %q, %v", name, again, err)
	}
	if len(name) == 0 || len(name) > 253 || strings.ToLower(name) != name {
		t.Errorf("%q (%d bytes) is not canonical", name, len(name))
	}
	rest := strings.TrimPrefix(name, "*.")
	if cert.IsIP(name) {
		addr, err := netip.ParseAddr(name)
		if err != nil || addr.Zone() != "" || addr.Is4In6() || addr.String() != name {
			t.Errorf("%q is not a canonical address", name)
		}
		return
	}
	for _, label := range strings.Split(rest, ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			t.Errorf("%q has the label %q", name, label)
		}
	}
}

func FuzzParseName(f *testing.F) {
	for _, s := range []string{
		"WWW.Example.COM", "www。example．com｡", "bücher.example", "xn--bcher-kva.example", "straße.example", "*.a.example",
		"::ffff:192.0.2.1", "fe80::1%eth0", "2001:DB8::1", "١.example", "a\u00ad.example", "a\u200d.example", "א1.example",
		"xn--a.example", "\xff.example", "example.com.。", "*.*.a.example", long(253), "*." + long(252), "１.２.３.４",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		name, err := cert.ParseName(s)
		if err != nil {
			if !utf8.ValidString(err.Error()) || strings.ContainsAny(err.Error(), "\x1b\n\x00") {
				t.Errorf("the error %q has raw input", err)
			}
			return
		}
		checkCanonical(t, name)
		names, err := cert.ParseNames(s, name, s)
		if err != nil || !slices.Equal(names, cert.Names{name}) {
			t.Errorf("ParseNames: %q, %v; want %q", names, err, name)
		}
	})
}
