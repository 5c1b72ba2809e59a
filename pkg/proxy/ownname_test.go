package proxy_test

import (
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/acmeproxy/acmeproxy/internal/dnstest"
	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/internal/watch"
	"github.com/acmeproxy/acmeproxy/pkg/proxy"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
)

// publicDNS resolves every name to 127.0.0.1, or none.
type publicDNS struct {
	addr string
	all  atomic.Bool
}

func startPublicDNS(t *testing.T) *publicDNS {
	t.Helper()
	d := &publicDNS{}
	d.addr = dnstest.ServeUDP(t, d)
	return d
}

func (d *publicDNS) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg).SetReply(q)
	header := dns.RR_Header{Name: q.Question[0].Name, Rrtype: q.Question[0].Qtype, Class: dns.ClassINET}
	switch {
	case !d.all.Load():
		m.Rcode = dns.RcodeNameError
	case header.Rrtype == dns.TypeA:
		m.Answer = append(m.Answer, &dns.A{Hdr: header, A: net.IPv4(127, 0, 0, 1)})
	}
	_ = w.WriteMsg(m) // the client may be gone
}

// startWithHostname starts a proxy that checks its hostname with that DNS server.
func startWithHostname(t *testing.T, clk *proxytest.Clock, resolver string) *proxytest.Proxy {
	t.Helper()
	ca := pebbletest.Start(t, pebbletest.Options{})
	return proxytest.Start(t, proxytest.Options{CA: ca, Change: clk.On(func(c *proxy.Config) {
		c.Hostname, c.CheckResolvers, c.CheckHTTPPort = "proxy.example.com", []string{resolver}, ca.HTTPPort
	})})
}

const ownHostname = "proxy.example.com"

// A hostname that does not lead here costs no attempt at the CA for a moment. A check
// can be wrong, so the CA is asked after the third one (X13).
func TestHostnameIsChecked(t *testing.T) {
	t.Parallel()
	var clk proxytest.Clock
	d := startPublicDNS(t)
	p := startWithHostname(t, &clk, d.addr)
	for range 2 {
		watch.Until(t, "the check has failed", func() bool { return strings.Contains(p.Own(t, ownHostname).LastError, "DNS has no such name") })
		if m := p.Own(t, ownHostname); m.Failures != 0 || !strings.Contains(m.LastError, "add an A record") {
			t.Errorf("%+v; want the remedy, and no failure counted", m)
		}
		if n := p.CA.Requests().Count(pebbletest.NewOrder); n != 0 {
			t.Fatalf("%d orders", n)
		}
		clk.Advance(time.Minute)
		p.Tick(t)
	}
	watch.Until(t, "the CA validated the name nevertheless", func() bool { return p.Own(t, ownHostname).Serial != "" })
	if !strings.Contains(p.Log(), "asking the CA although the hostname does not seem to lead here") {
		t.Error("the log does not say so")
	}
}

// As soon as DNS is correct, the certificate is requested, long before the next
// attempt (X44).
func TestHostnameIsCheckedAgain(t *testing.T) {
	t.Parallel()
	var clk proxytest.Clock
	d := startPublicDNS(t)
	p := startWithHostname(t, &clk, d.addr)
	watch.Until(t, "the check has failed", func() bool { return p.Own(t, ownHostname).LastError != "" })
	p.RecheckOwn(t.Context())
	if n := p.CA.Requests().Count(pebbletest.NewOrder); n != 0 {
		t.Fatalf("%d orders while the check fails", n)
	}
	d.all.Store(true)
	p.RecheckOwn(t.Context())
	watch.Until(t, "the certificate is there", func() bool { return p.Own(t, ownHostname).Serial != "" })
}

// A hostname that leads here is ordered at once.
func TestHostnameLeadsHere(t *testing.T) {
	t.Parallel()
	var clk proxytest.Clock
	d := startPublicDNS(t)
	d.all.Store(true)
	p := startWithHostname(t, &clk, d.addr)
	watch.Until(t, "the certificate is there", func() bool { return p.Own(t, ownHostname).Serial != "" })
	if strings.Contains(p.Log(), "not asking the CA") {
		t.Error("a good hostname was held back")
	}
}
