package issuer_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/acmeproxy/acmeproxy/internal/dnstest"
	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/challenge/dns01"
)

// M45, M46, M47: signed updates over TCP for the zone that the start of
// authority names, base and wildcard at the same time, all removed afterwards;
// other records at the name stay.
func TestRFC2136(t *testing.T) {
	unsetProviders(t)
	e, server := startDNS(t, "rfc2136", dnstest.Options{Key: tsigKey, Secret: tsigSecret}, nil)
	server.Add(txtName, "another's")
	issueWildcardAndBase(t, e)
	if n := e.ca.Requests().Count(pebbletest.Authorization); n != 2 {
		t.Errorf("%d requests for two authorizations: they took turns", n)
	}
	if n := server.Most(txtName); n != 3 {
		t.Errorf("%d values at one time, want base, wildcard and another's", n)
	}
	if values := server.TXT(txtName); !slices.Equal(values, []string{"another's"}) {
		t.Errorf("left behind: %q", values)
	}
	zones, refused := server.Updates()
	if want := []string{"zone.example.", "zone.example.", "zone.example.", "zone.example."}; !slices.Equal(zones, want) || refused != 0 {
		t.Errorf("updates of %q, %d refused; want two records put and taken in zone.example.", zones, refused)
	}
	for _, update := range server.Came() {
		if rr, ok := update.Msg.Ns[0].(*dns.TXT); update.Network != "tcp" || len(update.Msg.Ns) != 1 || !ok || rr.Hdr.Name != txtName || rr.Hdr.Class == dns.ClassINET && rr.Hdr.Ttl != 60 {
			t.Errorf("over %s: %v", update.Network, update.Msg)
		}
	}
	// a name deep in the zone
	if _, err := e.issuer.Issue(t.Context(), ec(names(t, "a.b.c.zone.example")), nil); err != nil {
		t.Error(err)
	}
}

// M46, M47: base and wildcard with BIND as the name server, with the key and
// the policy that the documentation has.
func TestNamed(t *testing.T) {
	unsetProviders(t)
	text := fmt.Sprintf("key \"acmeproxy\" {\n\talgorithm hmac-sha256;\n\tsecret \"%s\";\n};\n", tsigSecret)
	key := filepath.Join(t.TempDir(), "acmeproxy.key")
	if err := os.WriteFile(key, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	server := dnstest.StartNamed(t, text, dnstest.NamedZone{Name: "zone.example", Policy: "grant acmeproxy name _acme-challenge.zone.example. TXT;"})
	t.Setenv("DNSUPDATE_NAMESERVER", server.Addr)
	t.Setenv("DNSUPDATE_TSIG_FILE", key)
	e := start(t, pebbletest.Options{Resolver: server.Addr}, func(cfg *testConfig) {
		cfg.Challenge = acme.DNS01
		cfg.DNS = &dns01.Config{Provider: "rfc2136", Getenv: os.Getenv, Resolvers: []string{server.Addr}, Port: server.Port}
	})
	t.Cleanup(func() { e.issuer.Close() })
	issueWildcardAndBase(t, e)
	if values := server.TXT(t, txtName); len(values) != 0 {
		t.Errorf("left behind: %q", values)
	}
	if _, err := e.issuer.Issue(t.Context(), ec(names(t, "www.zone.example")), nil); err == nil || !strings.Contains(err.Error(), "REFUSED: the key acmeproxy. may not change it") {
		t.Errorf("got %v", err)
	}
}

// M46: the record is published and removed at the target of a CNAME.
func TestRFC2136CNAME(t *testing.T) {
	unsetProviders(t)
	const target = "zone.challenges.example."
	e, server := startDNS(t, "rfc2136", dnstest.Options{
		Key: tsigKey, Secret: tsigSecret,
		Zones: []string{"challenges.example."}, CNAMEs: map[string]string{txtName: target},
	}, nil)
	issueWildcardAndBase(t, e)
	if n := server.Most(target); n != 2 {
		t.Errorf("%d values at one time, want 2", n)
	}
	if values := server.TXT(target); len(values) != 0 {
		t.Errorf("left behind: %q", values)
	}
}

// M46: another name server is used when the first one is unreachable.
func TestRFC2136SecondServer(t *testing.T) {
	unsetProviders(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	_, server := startDNS(t, "rfc2136", dnstest.Options{Key: tsigKey, Secret: tsigSecret}, nil)
	t.Setenv("DNSUPDATE_NAMESERVER", l.Addr().String()+", localhost:"+server.Port)
	e := start(t, pebbletest.Options{Resolver: server.Addr}, func(cfg *testConfig) {
		cfg.Challenge = acme.DNS01
		cfg.DNS = &dns01.Config{Provider: "rfc2136", Getenv: os.Getenv, Resolvers: []string{server.Addr}, Port: server.Port}
	})
	t.Cleanup(func() { e.issuer.Close() })
	issueWildcardAndBase(t, e)
	if values := server.TXT(txtName); len(values) != 0 {
		t.Errorf("left behind: %q", values)
	}
}

// M46: with a wrong key nothing is published, and the CA gets no request to validate.
func TestRFC2136WrongKey(t *testing.T) {
	unsetProviders(t)
	t.Setenv("DNSUPDATE_TSIG_SECRET", "d3JvbmcgZG9nIHdyb25nIGRvZyB3cm9uZyBkb2cgd3I=")
	e, server := startDNS(t, "rfc2136", dnstest.Options{Key: tsigKey, Secret: tsigSecret}, nil)
	_, err := e.issuer.Issue(t.Context(), ec(names(t, "zone.example")), nil)
	var failed *acme.Error
	if !errors.As(err, &failed) || failed.Kind != acme.Temporary || failed.Identifier != "zone.example" {
		t.Errorf("got %v", err)
	}
	if err != nil && (!strings.Contains(err.Error(), "BADSIG: it has another secret for the key acmeproxy-key.") || strings.Contains(err.Error(), tsigSecret)) {
		t.Errorf("got %v", err)
	}
	if zones, _ := server.Updates(); len(zones) != 0 {
		t.Errorf("updates of %q", zones)
	}
	if n := e.ca.Requests().Count(pebbletest.Challenge); n != 0 {
		t.Errorf("the CA was told to validate %d times", n)
	}
}
