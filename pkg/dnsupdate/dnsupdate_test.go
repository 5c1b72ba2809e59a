package dnsupdate

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/goleak"

	"github.com/acmeproxy/acmeproxy/internal/dnstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	secret = "YWJjZGVmZGdoaWprbG1ub3BxcnN0dXZ3eHl6MTIzNDU="
	name   = "_acme-challenge.www.zone.example."
)

var key = Key{Name: "acmeproxy.", Algorithm: dns.HmacSHA256, Secret: secret}

func client(t testing.TB, servers ...string) *Client {
	t.Helper()
	c, err := New(Config{Servers: servers, TTL: DefaultTTL, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// signing is a server's options with the key of these tests.
func signing(opts dnstest.Options) dnstest.Options {
	opts.Key, opts.Secret = key.Name, secret
	opts.Zones = append(opts.Zones, "zone.example.")
	return opts
}

// M45: what goes over the wire: an UPDATE over TCP that adds one TXT record
// with a TTL of 60 to _acme-challenge.NAME, and nothing else; M46: later the
// deletion of just that, both signed.
func TestPackets(t *testing.T) {
	server := dnstest.Start(t, signing(dnstest.Options{}))
	server.Add(name, "another's")
	c := client(t, server.Addr)
	if c.cfg.Timeout != 5*time.Second {
		t.Errorf("it waits for %v, want 5 s", c.cfg.Timeout)
	}
	if err := c.Add(t.Context(), name, "value"); err != nil {
		t.Fatal(err)
	}
	if got, want := server.TXT(name), []string{"another's", "value"}; !slices.Equal(got, want) {
		t.Errorf("the name has %q, want %q", got, want)
	}
	if err := c.Delete(t.Context(), name, "value"); err != nil {
		t.Fatal(err)
	}
	if got, want := server.TXT(name), []string{"another's"}; !slices.Equal(got, want) {
		t.Errorf("the name has %q, want %q", got, want)
	}
	came := server.Came()
	if len(came) != 2 {
		t.Fatalf("%d updates, want 2", len(came))
	}
	for i, want := range []struct {
		class uint16
		ttl   uint32
	}{{dns.ClassINET, 60}, {dns.ClassNONE, 0}} { // RFC 2136, sections 2.5.1 and 2.5.4
		m := came[i].Msg
		if came[i].Network != "tcp" || m.Opcode != dns.OpcodeUpdate || len(m.Answer) != 0 || len(m.Ns) != 1 || len(m.Question) != 1 {
			t.Fatalf("over %s: %v", came[i].Network, m)
		}
		if q := m.Question[0]; q.Name != "zone.example." || q.Qtype != dns.TypeSOA || q.Qclass != dns.ClassINET {
			t.Errorf("zone section %v", q)
		}
		rr, ok := m.Ns[0].(*dns.TXT)
		if !ok || rr.Hdr.Name != name || rr.Hdr.Class != want.class || rr.Hdr.Ttl != want.ttl || !slices.Equal(rr.Txt, []string{"value"}) {
			t.Errorf("update section %v", m.Ns[0])
		}
		if s := m.IsTsig(); s == nil || s.Hdr.Name != key.Name || s.Algorithm != dns.HmacSHA256 || s.Fudge != 300 {
			t.Errorf("signature %v", s)
		}
	}
}

// M46: the zone is where the start of authority is, at any depth.
func TestZone(t *testing.T) {
	opts := signing(dnstest.Options{Zones: []string{"sub.zone.example."}, Delegated: []string{"other.zone.example."}})
	server := dnstest.Start(t, opts)
	for _, test := range []struct {
		name, want, err string
		zones           []string
	}{
		{name: "_acme-challenge.zone.example.", want: "zone.example."},
		{name: "_acme-challenge.a.b.c.zone.example.", want: "zone.example."},
		{name: "_acme-challenge.sub.zone.example.", want: "sub.zone.example."},
		{name: "_acme-challenge.a.sub.zone.example.", want: "sub.zone.example."},
		{name: "sub.zone.example.", want: "sub.zone.example."},
		{name: "_acme-challenge.other.zone.example.", err: "a referral to the name servers of other.zone.example.; set one of these in DNSUPDATE_NAMESERVER"},
		{name: "_acme-challenge.elsewhere.example.", err: "REFUSED"},
		{name: "_acme-challenge.sub.zone.example.", want: "zone.example.", zones: []string{"example.", "zone.example."}},
		{name: "_acme-challenge.elsewhere.test.", err: "DNSUPDATE_ZONES (example.)", zones: []string{"example."}},
	} {
		c := client(t, server.Addr)
		c.cfg.Zones = test.zones
		got, err := c.zone(t.Context(), server.Addr, test.name)
		if got != test.want || (err != nil) != (test.err != "") || err != nil && !strings.Contains(err.Error(), test.err) {
			t.Errorf("%s: %q, %v; want %q %q", test.name, got, err, test.want, test.err)
		}
	}
}

// A server may refuse to answer for a name below the zone: views, or a zone that
// it has lost. The names above it are asked for, too, up to the first answer.
func TestZoneAboveRefusal(t *testing.T) {
	for _, code := range []int{dns.RcodeRefused, dns.RcodeNotAuth, dns.RcodeServerFailure} {
		t.Run(dns.RcodeToString[code], func(t *testing.T) {
			var mu sync.Mutex
			var asked []string
			server := dnstest.Start(t, signing(dnstest.Options{Answer: func(q dns.Question) (rcode int) {
				mu.Lock()
				defer mu.Unlock()
				asked = append(asked, q.Name)
				if q.Name != "zone.example." {
					return code
				}
				return dns.RcodeSuccess
			}}))
			if err := client(t, server.Addr).Add(t.Context(), name, "value"); err != nil {
				t.Fatal(err)
			}
			if got := server.TXT(name); !slices.Equal(got, []string{"value"}) {
				t.Errorf("the name has %q", got)
			}
			if came := server.Came(); len(came) != 1 || came[0].Msg.Question[0].Name != "zone.example." {
				t.Errorf("%v, want one update of the zone above", came)
			}
			mu.Lock()
			defer mu.Unlock()
			if want := []string{name, "www.zone.example.", "zone.example."}; !slices.Equal(asked, want) {
				t.Errorf("asked for %q, want %q", asked, want)
			}
		})
	}
	// The first refusal is the one that is reported.
	server := dnstest.Start(t, signing(dnstest.Options{Answer: func(q dns.Question) int {
		if q.Name == name {
			return dns.RcodeNotAuth
		}
		return dns.RcodeRefused
	}}))
	err := client(t, server.Addr).Add(t.Context(), name, "value")
	if err == nil || !strings.Contains(err.Error(), "does not return the zone of "+name) || !strings.Contains(err.Error(), "NOTAUTH") {
		t.Errorf("got %v", err)
	}
}

// silent is a server that takes connections and says nothing.
func silent(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

// down returns an address that no server listens on.
func down(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// M46: not the first server only. What was added at one is deleted at all.
func TestSeveralServers(t *testing.T) {
	good, other := dnstest.Start(t, signing(dnstest.Options{})), dnstest.Start(t, signing(dnstest.Options{}))
	refuses := dnstest.Start(t, signing(dnstest.Options{Refuse: dns.RcodeNotAuth}))
	quiet := silent(t)
	for name, first := range map[string]string{"down": down(t), "silent": quiet, "refuses": refuses.Addr} {
		t.Run(name, func(t *testing.T) {
			c, later := client(t, first, good.Addr, other.Addr), client(t, other.Addr, good.Addr, first)
			if first == quiet {
				c.cfg.Timeout, later.cfg.Timeout = 500*time.Millisecond, 500*time.Millisecond
			}
			if err := c.Add(t.Context(), "_acme-challenge.zone.example.", name); err != nil {
				t.Fatal(err)
			}
			if len(good.TXT("_acme-challenge.zone.example.")) != 1 || len(other.TXT("_acme-challenge.zone.example.")) != 0 {
				t.Error("not at the first server that takes it, or at more")
			}
			if err := later.Delete(t.Context(), "_acme-challenge.zone.example.", name); err != nil {
				t.Error(err)
			}
			if left := good.TXT("_acme-challenge.zone.example."); len(left) != 0 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
	err := client(t, down(t), refuses.Addr).Add(t.Context(), name, "value")
	if err == nil || !strings.Contains(err.Error(), "cannot be reached over TCP") || !strings.Contains(err.Error(), "; and "+refuses.Addr+" does not update the zone zone.example.: NOTAUTH: it is not the primary; set that in DNSUPDATE_NAMESERVER") {
		t.Errorf("got %v, want what both said", err)
	}
}

// A host name does as well as an address.
func TestHostName(t *testing.T) {
	server := dnstest.Start(t, signing(dnstest.Options{}))
	if err := client(t, "localhost:"+server.Port).Add(t.Context(), name, "value"); err != nil {
		t.Error(err)
	}
}

// An answer without a signature is ignored.
func TestUnsignedAnswer(t *testing.T) {
	server := dnstest.Start(t, signing(dnstest.Options{Unsigned: true}))
	if err := client(t, server.Addr).Add(t.Context(), name, "value"); err == nil || !strings.Contains(err.Error(), "does not sign its answer") {
		t.Errorf("got %v", err)
	}
}

// Each refusal comes with its code and what to do.
func TestRefusals(t *testing.T) {
	for code, want := range map[int]string{
		dns.RcodeRefused:        "REFUSED: the key acmeproxy. may not change it; allow that",
		dns.RcodeNotAuth:        "NOTAUTH: it is not the primary",
		dns.RcodeNotZone:        "NOTZONE: the name is in another zone; correct DNSUPDATE_ZONES",
		dns.RcodeNotImplemented: "NOTIMP: it does not support dynamic updates",
		dns.RcodeServerFailure:  "SERVFAIL: see its log",
		dns.RcodeNXRrset:        "NXRRSET: ",
		dns.RcodeFormatError:    "FORMERR: ",
		dns.RcodeBadCookie:      "BADCOOKIE",
		4000:                    "code 4000",
	} {
		if code < 16 { // the others need EDNS
			server := dnstest.Start(t, signing(dnstest.Options{Refuse: code}))
			if err := client(t, server.Addr).Add(t.Context(), name, "value"); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %q", err, want)
			}
		} else if err := client(t, "").refusal(code); !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	server := dnstest.Start(t, signing(dnstest.Options{}))
	c := client(t, server.Addr)
	c.cfg.Key = Key{}
	if err := c.Add(t.Context(), name, "value"); err == nil || !strings.Contains(err.Error(), "REFUSED: it requires signed updates; set DNSUPDATE_TSIG_FILE") {
		t.Errorf("got %v", err)
	}
}

// The context ends an update.
func TestCancel(t *testing.T) {
	server := silent(t)
	c := client(t, server, server)
	c.cfg.Timeout = time.Hour
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Add(ctx, name, "value") }()
	cancel()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it still waits")
	}
	c.cfg.Timeout = 50 * time.Millisecond
	if err := c.Add(t.Context(), name, "value"); err == nil || !strings.Contains(err.Error(), "does not answer within 50ms") {
		t.Errorf("got %v", err)
	}
}
