package acmems

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/acmeproxy/acmeproxy/pkg/bodymac"
)

const body = "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n"

// decide returns the name of the block, or the stage at which it ends.
func decide(t *testing.T, c *Config, addr, header string, names ...string) string {
	t.Helper()
	by := Caller{Addr: netip.MustParseAddr(addr)}
	if mac, ok := bodymac.ParseHeader(header); ok {
		by.MAC = mac
	}
	blocks, err := c.Possible(by)
	if err != nil {
		return "before the body"
	}
	if blocks, err = by.Accepted(blocks, []byte(body)); err != nil {
		return "HMAC"
	}
	b, err := Choose(blocks, names)
	if err == nil {
		return b.Name
	}
	var denied *Denied
	if !errors.As(err, &denied) || strings.Contains(denied.ForCaller, "auth") {
		t.Errorf("%v: %+v", err, denied)
	}
	return strings.Join(append([]string{"names"}, denied.Ungranted...), " ")
}

func signed(kind bodymac.Type, key string) string {
	h := hmac.New(sha256.New, []byte(key))
	h.Write([]byte(body))
	return "hmac name=" + string(kind) + ", hash=" + hex.EncodeToString(h.Sum(nil))
}

// The first block all of whose methods accept the caller, and that allows all names, is
// chosen (M16, M17), by networks (M24), all=yes (M25) and HMAC (M26, M29, M35).
func TestChoose(t *testing.T) {
	t.Parallel()
	c := mustParse(t, minimal+`
[auth nothing]
all=yes
[auth lan]
ip=192.0.2.0/24
ip=198.51.100.21
domain=*.example.org
[auth lan-com]
ip=192.0.2.0/24
domain=*.example.com
[auth key]
ip=192.0.2.0/24
hmac_type=sha256
hmac_key=k1
domain=*
[auth other key]
hmac_key=k2
hmac_type=sha256
domain=*.example.net
[auth long]
hmac_type=sha384
hmac_key=k1
domain=long.example.net
[auth six]
ip=2001:db8::/32
all=yes
domain=six.example.org
`)
	for _, r := range []struct {
		addr, header string
		names        string
		want         string
	}{
		{"192.0.2.34", "", "a.example.org", "lan"},
		{"198.51.100.21", "", "a.b.example.org", "lan"},
		{"198.51.100.22", "", "a.example.org", "before the body"}, // M11
		{"2001:db8::1", "", "six.example.org", "six"},
		{"2001:db8::1", "", "a.example.org", "names a.example.org"},
		{"192.0.2.34", "", "example.org", "names example.org"},
		{"192.0.2.34", "", "*.example.org", "lan"},
		{"192.0.2.34", "", "A.EXAMPLE.ORG", "lan"},                 // M21
		{"192.0.2.34", "", "a.example.org a.example.com", "names"}, // M16
		{"192.0.2.34", "", "a.example.org b.example.net", "names b.example.net"},
		{"192.0.2.34", "", "", "names"},
		{"192.0.2.34", signed("sha256", "k1"), "a.example.org a.example.com", "key"},
		{"192.0.2.34", signed("sha256", "k1"), "a.example.org", "lan"}, // M17
		{"192.0.2.34", signed("sha256", "k2"), "b.example.net", "other key"},
		{"203.0.113.1", signed("sha256", "k2"), "b.example.net", "other key"},
		{"203.0.113.1", signed("sha2-256", "k2"), "b.example.net", "other key"}, // M28
		{"203.0.113.1", signed("sha256", "k1"), "b.example.net", "HMAC"},
		{"203.0.113.1", signed("sha256", "k3"), "b.example.net", "HMAC"},            // M29
		{"203.0.113.1", signed("sha384", "k1"), "long.example.net", "HMAC"},         // M29
		{"203.0.113.1", signed("sha512", "k2"), "b.example.net", "before the body"}, // M29
		{"203.0.113.1", "hmac", "b.example.net", "before the body"},                 // M30
		{"203.0.113.1", "Basic abcd", "b.example.net", "before the body"},           // M30
		{"192.0.2.34", signed("sha256", "k1"), "192.0.2.1", "names 192.0.2.1"},      // M19
		{"192.0.2.34", signed("sha256", "k1"), "a.example.org 2001:db8::1", "names 2001:db8::1"},
	} {
		if got := decide(t, c, r.addr, r.header, strings.Fields(r.names)...); got != r.want {
			t.Errorf("%s %.40q %s: %s, not %s", r.addr, r.header, r.names, got, r.want)
		}
	}
}

// A file without blocks allows nothing, and one block with domains and no method is an
// error (M22, M23).
func TestNoBlocks(t *testing.T) {
	t.Parallel()
	if got := decide(t, mustParse(t, minimal), "127.0.0.1", "", "a"); got != "before the body" {
		t.Error(got)
	}
}

// The forms of networks that ACMEMS reads (M24).
func TestNetworks(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text, addr string
		want       bool
	}{
		{"127.0.0.0/24", "127.0.0.255", true},
		{"127.0.0.0/24", "127.8.0.1", false},
		{"192.0.2.21", "192.0.2.21", true},
		{"192.0.2.21", "192.0.2.22", false},
		{"10/8", "10.255.255.255", true},
		{"192.168/16", "192.168.3.4", true},
		{"192.0.2.0/255.255.255.0", "192.0.2.255", true},
		{"192.0.2.0/255.255.255.0", "192.0.3.0", false},
		{"192.0.2.5-192.0.2.9", "192.0.2.9", true},
		{"192.0.2.5-192.0.2.9", "192.0.2.10", false},
		{"0.0.0.0/0", "203.0.113.1", true},
		{"0.0.0.0/0", "::1", false},
		{"::/0", "2001:db8::1", true},
		{"::/0", "203.0.113.1", false},
		{"2001:db8::/33", "2001:db8:7fff::1", true},
		{"2001:db8::/33", "2001:db8:8000::1", false},
		{"::ffff:192.0.2.0/120", "192.0.2.9", true},
	} {
		n, err := parseNetwork(c.text)
		if err != nil || n.contains(netip.MustParseAddr(c.addr)) != c.want {
			t.Errorf("%s contains %s: %v, %v", c.text, c.addr, !c.want, err)
		}
	}
	for _, text := range []string{
		"", "a", "192.0.2.1/24", "192.0.2.0/33", "192.0.2.0/", "192.0.2.0/-1", "192.0.2.0/255.0.255.0", "192.0.2.0/24/24",
		"1.2.3.4.5", "192.0.2.9-192.0.2.5", "::1-::2", "fe80::1%eth0", "::ffff:0.0.0.0/90", "300.1.1.1", "192.0.2.0/1000",
	} {
		if n, err := parseNetwork(text); err == nil {
			t.Errorf("%q: %v", text, n)
		}
	}
}
