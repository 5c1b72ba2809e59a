package dnsupdate

import (
	"testing"

	"github.com/miekg/dns"
)

// For any answer, a zone is one that can have the name.
func FuzzAuthority(f *testing.F) {
	for _, text := range []string{
		"zone.example. 1 IN SOA ns1.zone.example. ops.zone.example. 1 1 1 1 1",
		"sub.zone.example. 1 IN NS ns1.sub.zone.example.",
		"www.zone.example. 1 IN CNAME elsewhere.example.",
		". 1 IN NS a.root-servers.net.",
	} {
		rr, err := dns.NewRR(text)
		if err != nil {
			f.Fatal(err)
		}
		m := new(dns.Msg).SetQuestion(name, dns.TypeSOA)
		m.Response, m.Ns = true, []dns.RR{rr}
		packet, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(packet)
	}
	f.Fuzz(func(t *testing.T, packet []byte) {
		m := new(dns.Msg)
		if m.Unpack(packet) != nil {
			return
		}
		zone, others := authority(m, name)
		for _, found := range []string{zone, others} {
			if found != "" && !dns.IsSubDomain(found, name) {
				t.Errorf("%q has no %s", found, name)
			}
		}
		if zone != "" && others != "" {
			t.Errorf("the zone is %q and another server's, %q", zone, others)
		}
	})
}
