package dns01

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/acmeproxy/acmeproxy/internal/dnstest"
)

// oddZone answers as a resolver and as the name servers of zone.example. at once.
// One answer of each kind that looking up a TXT record needs can be spoilt.
type oddZone struct {
	spoilt map[string]int // by name and type: a code; -1: no answer
	value  string
}

func (z *oddZone) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg).SetReply(q)
	m.Authoritative = true
	asked := strings.ToLower(q.Question[0].Name) + " " + dns.TypeToString[q.Question[0].Qtype]
	host, _, _ := net.SplitHostPort(w.LocalAddr().String())
	if rcode, ok := z.spoilt[host+" "+asked]; ok {
		m.Rcode, m.Authoritative = rcode, false
	}
	if rcode, ok := z.spoilt[asked]; ok {
		m.Rcode = rcode
	}
	records := map[string][]string{
		"zone.example. SOA":                 {"zone.example. SOA ns1.zone.example. ops.zone.example. 1 2 3 4 5"},
		"zone.example. NS":                  {"zone.example. NS ns1.zone.example.", "zone.example. NS ns2.zone.example."},
		"ns1.zone.example. A":               {"ns1.zone.example. A 127.0.0.1"},
		"ns2.zone.example. A":               {"ns2.zone.example. A 127.0.0.2"},
		"_acme-challenge.zone.example. TXT": {"_acme-challenge.zone.example. TXT " + z.value, "other.example. TXT forged"},
	}[asked]
	for _, text := range records {
		if rr, err := dns.NewRR(text); err == nil && m.Rcode == dns.RcodeSuccess {
			m.Answer = append(m.Answer, rr)
		}
	}
	w.WriteMsg(m)
}

// listen serves z at an address of loopback, by UDP.
func (z *oddZone) listen(t *testing.T, addr string) (port string) {
	t.Helper()
	packets, err := net.ListenPacket("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	dnstest.Serve(t, &dns.Server{PacketConn: packets, Handler: z})
	_, port, _ = net.SplitHostPort(packets.LocalAddr().String())
	return port
}

// One failed auxiliary question does not fail the lookup of a TXT record, nor
// does one name server of two that is down or lame. A6: others' records and a
// server that answers without the value do.
func TestPropagationToleratesOddServers(t *testing.T) {
	t.Parallel()
	const txt = "_acme-challenge.zone.example. TXT"
	for name, test := range map[string]struct {
		spoilt map[string]int
		value  string
		second bool // the second name server runs
		want   string
	}{
		"all well":           {nil, "wanted", true, ""},
		"second is down":     {nil, "wanted", false, ""},
		"second is lame":     {map[string]int{"127.0.0.2 " + txt: dns.RcodeRefused}, "wanted", true, ""},
		"second fails":       {map[string]int{"127.0.0.2 " + txt: dns.RcodeServerFailure}, "wanted", true, ""},
		"AAAA":               {map[string]int{"ns1.zone.example. AAAA": dns.RcodeServerFailure, "ns2.zone.example. AAAA": dns.RcodeRefused}, "wanted", true, ""},
		"address of second":  {map[string]int{"ns2.zone.example. A": dns.RcodeServerFailure}, "wanted", true, ""},
		"SOA below the zone": {map[string]int{"_acme-challenge.zone.example. SOA": dns.RcodeServerFailure}, "wanted", true, ""},
		"CNAME":              {map[string]int{"_acme-challenge.zone.example. CNAME": dns.RcodeServerFailure}, "wanted", true, ""},

		"not there":    {nil, "older", true, "does not have it yet"},
		"forged":       {nil, "forged-not", true, "does not have it yet"},
		"both lame":    {map[string]int{"127.0.0.1 " + txt: dns.RcodeRefused, "127.0.0.2 " + txt: dns.RcodeRefused}, "wanted", true, "REFUSED"},
		"SOA of all":   {map[string]int{"_acme-challenge.zone.example. SOA": dns.RcodeServerFailure, "zone.example. SOA": dns.RcodeServerFailure}, "wanted", true, "SERVFAIL"},
		"NS":           {map[string]int{"zone.example. NS": dns.RcodeServerFailure}, "wanted", true, "SERVFAIL"},
		"no addresses": {map[string]int{"ns1.zone.example. A": dns.RcodeServerFailure, "ns2.zone.example. A": dns.RcodeServerFailure}, "wanted", true, "SERVFAIL"},
	} {
		z := &oddZone{spoilt: test.spoilt, value: test.value}
		port := z.listen(t, "127.0.0.1:0")
		if test.second {
			z.listen(t, "127.0.0.2:"+port)
		}
		p := &propagation{mode: Nameservers, resolvers: []string{"127.0.0.1:" + port}, port: port}
		err := p.check(t.Context(), "_acme-challenge.zone.example.", "wanted")
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
	// One resolver of two that is down does not count either.
	z := &oddZone{value: "wanted"}
	up := net.JoinHostPort("127.0.0.1", z.listen(t, "127.0.0.1:0"))
	p := &propagation{mode: Resolvers, resolvers: []string{"127.0.0.1:1", up}}
	if err := p.wait(t.Context(), "_acme-challenge.zone.example.", "wanted", time.Minute, time.Second); err != nil {
		t.Error(err)
	}
}
