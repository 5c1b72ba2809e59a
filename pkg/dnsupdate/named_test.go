package dnsupdate

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/acmeproxy/acmeproxy/internal/dnstest"
)

// statement is a key as tsig-keygen writes it.
func statement(k Key) string {
	return fmt.Sprintf("key %q {\n\talgorithm %s;\n\tsecret %q;\n};\n", strings.TrimSuffix(k.Name, "."), strings.TrimSuffix(k.Algorithm, "."), k.Secret)
}

// M45, M46, M47: BIND takes what is sent: two values at one name, in a zone
// below another one, signed with every algorithm, and takes one away.
func TestNamed(t *testing.T) {
	var keys, grants strings.Builder
	var all []Key
	for _, algorithm := range algorithms {
		k := Key{Name: "key-" + algorithm, Algorithm: algorithm, Secret: secret}
		all = append(all, k)
		keys.WriteString(statement(k))
		fmt.Fprintf(&grants, "grant %q name _acme-challenge.sub.zone.example. TXT; ", k.Name)
	}
	server := dnstest.StartNamed(t, keys.String(),
		dnstest.NamedZone{Name: "zone.example", Records: "sub NS ns1.sub"},
		dnstest.NamedZone{Name: "sub.zone.example", Policy: grants.String()})
	const name = "_acme-challenge.sub.zone.example."
	for _, k := range all {
		t.Run(k.Algorithm, func(t *testing.T) {
			c := client(t, server.Addr)
			c.cfg.Key = k
			var adding sync.WaitGroup
			for _, value := range []string{"base", "wildcard"} {
				adding.Go(func() {
					if err := c.Add(t.Context(), name, value); err != nil {
						t.Error(err)
					}
				})
			}
			adding.Wait()
			got := server.TXT(t, name)
			slices.Sort(got)
			if want := []string{"base", "wildcard"}; !slices.Equal(got, want) {
				t.Errorf("the name has %q, want %q", got, want)
			}
			for range 2 { // what is not there can be deleted, too
				if err := c.Delete(t.Context(), name, "base"); err != nil {
					t.Error(err)
				}
			}
			if got := server.TXT(t, name); !slices.Equal(got, []string{"wildcard"}) {
				t.Errorf("the name has %q, want the other value only", got)
			}
			if err := c.Delete(t.Context(), name, "wildcard"); err != nil {
				t.Error(err)
			}
		})
	}
}

// M46: what a real server has against an update, in words with a remedy, and
// never with the secret.
func TestNamedRefuses(t *testing.T) {
	server := dnstest.StartNamed(t, statement(key),
		dnstest.NamedZone{Name: "zone.example", Policy: "grant acmeproxy name " + name + " TXT;", Records: "sub NS ns1.sub\nns1.sub A 127.0.0.1"},
		dnstest.NamedZone{Name: "static.example"})
	const wrong = "d3JvbmcgZG9nIHdyb25nIGRvZyB3cm9uZyBkb2cgd3I="
	for want, change := range map[string]func(*Client) string{
		"BADKEY: it does not know the key other. with hmac-sha256.; compare DNSUPDATE_TSIG_KEY":               func(c *Client) string { c.cfg.Key.Name = "other."; return name },
		"BADSIG: it has another secret for the key acmeproxy.; compare DNSUPDATE_TSIG_SECRET":                 func(c *Client) string { c.cfg.Key.Secret = wrong; return name },
		"BADKEY: it does not know the key acmeproxy. with hmac-sha512.; compare":                              func(c *Client) string { c.cfg.Key.Algorithm = dns.HmacSHA512; return name },
		"REFUSED: it requires signed updates":                                                                 func(c *Client) string { c.cfg.Key = Key{}; return name },
		"REFUSED: the key acmeproxy. may not change it; allow that there":                                     func(*Client) string { return "_acme-challenge.other.zone.example." },
		"does not update the zone static.example.: REFUSED":                                                   func(*Client) string { return "_acme-challenge.static.example." },
		"only a referral to the name servers of sub.zone.example.; set one of these":                          func(*Client) string { return "_acme-challenge.sub.zone.example." },
		"does not return the zone of _acme-challenge.elsewhere.example.: REFUSED":                             func(*Client) string { return "_acme-challenge.elsewhere.example." },
		"does not update the zone example.: NOTAUTH: it is not the primary; set that in DNSUPDATE_NAMESERVER": func(c *Client) string { c.cfg.Zones = []string{"example."}; return name },
		"correct the wrong one, they may differ by 300 seconds":                                               slow,
		"BADTIME: its clock shows 2":                                                                          slow,
	} {
		c := client(t, server.Addr)
		err := c.Add(t.Context(), change(c), "value")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
			continue
		}
		if strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), wrong) {
			t.Errorf("the secret is in %v", err)
		}
	}
}

// A name in another zone than the one that is updated.
func TestNamedOtherZone(t *testing.T) {
	server := dnstest.StartNamed(t, statement(key), dnstest.NamedZone{Name: "zone.example", Policy: "grant acmeproxy zonesub TXT;"})
	m := new(dns.Msg).SetUpdate("zone.example.")
	m.Insert(record("_acme-challenge.elsewhere.example.", "value", 60))
	const want = "NOTZONE: the name is in another zone; correct DNSUPDATE_ZONES"
	if err := client(t, server.Addr).update(t.Context(), server.Addr, m); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
	if err := client(t, server.Addr).Add(t.Context(), name, "value"); err != nil {
		t.Errorf("with the other policy of the documentation: %v", err)
	}
}

// slow is a clock that is an hour late.
func slow(c *Client) string {
	c.now = func() time.Time { return time.Now().Add(-time.Hour) }
	return name
}
