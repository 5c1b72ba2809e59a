package preflight_test

import (
	"fmt"
	"net"
	"testing"

	"github.com/miekg/dns"

	"github.com/acmeproxy/acmeproxy/pkg/preflight"
)

// Each answer of DNS has its verdict (X13).
func TestDNS(t *testing.T) {
	t.Parallel()
	records := []string{
		"web1.example.test. A 127.0.0.1",
		"alias.example.test. CNAME web1.example.test.",
		"mail.example.test. TXT text",
	}
	for i := range 200 { // more than a packet of UDP holds
		records = append(records, fmt.Sprintf("many.example.test. A 127.0.%d.1", i))
	}
	addr := startZone(t, map[string]int{
		"broken.example.test. A":    dns.RcodeServerFailure,
		"refused.example.test. A":   dns.RcodeRefused,
		"refused.example.test. CAA": dns.RcodeRefused,
		"half.example.test. AAAA":   dns.RcodeServerFailure,
	}, append(records, "half.example.test. A 127.0.0.1")...)
	w := newWorld(t, addr)
	w.web(t, w.responder)
	for name, want := range map[string]struct {
		verdict preflight.Verdict
		texts   []string
	}{
		"web1.example.test":    {preflight.Warning, []string{"127.0.0.1 (loopback)", "public"}},
		"alias.example.test":   {preflight.Warning, []string{"127.0.0.1 (loopback)"}},
		"absent.example.test":  {preflight.Fails, []string{"DNS has no such name", "add an A record"}},
		"mail.example.test":    {preflight.Fails, []string{"has no address", "add an A record"}},
		"broken.example.test":  {preflight.Fails, []string{"SERVFAIL", "DNSSEC"}},
		"refused.example.test": {preflight.Fails, []string{"REFUSED", "--resolver"}},
		"half.example.test":    {preflight.Warning, []string{"127.0.0.1", "half of the lookup fails", "SERVFAIL"}}, // no CA gives up
		"many.example.test":    {preflight.Warning, []string{"127.0.7.1", "…"}},
	} {
		r := w.run(t, name).Names[0]
		wants(t, name, only(t, r, preflight.DNS), want.verdict, want.texts...)
		if name == "many.example.test" {
			if len(r.Checks) != 1+8+1+1 {
				t.Errorf("%d checks, want 8 addresses and a note on the others: %+v", len(r.Checks), r.Checks)
			}
		}
	}
}

// An IPv6 address that cannot be connected to is a warning while an IPv4
// address leads to the proxy: CAs try IPv4 then.
func TestIPv6IsExcused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, startZone(t, nil, "web1.example.test. A 127.0.0.1", "web1.example.test. AAAA ::1"))
	w.web(t, w.responder)
	r := w.run(t, "web1.example.test").Names[0]
	if r.Verdict != preflight.Warning {
		t.Errorf("verdict %s: %+v", r.Verdict, r.Checks)
	}
	w = newWorld(t, startZone(t, nil, "web1.example.test. AAAA ::1"))
	if r := w.run(t, "web1.example.test").Names[0]; r.Verdict != preflight.Fails && r.Verdict != preflight.Warning {
		t.Errorf("IPv6 alone: verdict %s: %+v", r.Verdict, r.Checks)
	}
}

// A resolver that does not answer is skipped, and named if no other one answers (X13).
func TestResolvers(t *testing.T) {
	t.Parallel()
	silent, err := net.ListenPacket("udp", "127.0.0.1:0") // a socket that no program reads
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	w := newWorld(t, silent.LocalAddr().String())
	w.cfg.Timeout = 2e8
	w.web(t, w.responder)
	r := w.run(t, "web1.example.test").Names[0]
	wants(t, "silent", only(t, r, preflight.DNS), preflight.Fails, silent.LocalAddr().String(), "timeout", "--resolver")
	wants(t, "silent", only(t, r, preflight.HTTP), preflight.NotChecked)
	wants(t, "silent", only(t, r, preflight.CAA), preflight.NotChecked, "timeout", "--resolver")

	w.cfg.Timeout = 0
	w.cfg.Resolvers = []string{"127.0.0.1:1", startZone(t, nil, "web1.example.test. A 127.0.0.1")}
	wants(t, "the second", only(t, w.run(t, "web1.example.test").Names[0], preflight.HTTP), preflight.OK)
}

// Addresses that no public CA reaches are named as such (X13).
func TestSpecialAddresses(t *testing.T) {
	t.Parallel()
	for addr, kind := range map[string]string{
		"10.1.2.3": "private", "192.168.0.1": "private", "fd00::1": "private", "127.0.0.2": "loopback", "::1": "loopback",
		"169.254.1.1": "link-local", "fe80::1": "link-local", "100.64.0.1": "carrier-grade NAT", "0.0.0.0": "unspecified",
		"198.51.100.1": "documentation", "2001:db8::1": "documentation", "240.0.0.1": "reserved", "224.0.0.1": "multicast",
	} {
		wants(t, addr, preflight.VerdictOnAddress(addr), preflight.Warning, addr+" (", kind, "public")
	}
	for _, addr := range []string{"9.9.9.9", "2620:fe::fe"} {
		wants(t, addr, preflight.VerdictOnAddress(addr), preflight.OK, addr)
	}
}
