package admin_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/miekg/dns"

	"github.com/acmeproxy/acmeproxy/internal/dnstest"
	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/frontend/admin"
	"github.com/acmeproxy/acmeproxy/pkg/preflight"
	"github.com/acmeproxy/acmeproxy/pkg/proxy"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
	"github.com/acmeproxy/acmeproxy/pkg/responder"
)

// caaZone is a DNS server that resolves every name to 127.0.0.1 and serves a CAA record
// for one of them. (All tests of a process share the CA's own DNS server.)
type caaZone struct {
	addr string
	name string
	caa  atomic.Pointer[string] // of an issue property; nil: no record
}

func startCAAZone(t *testing.T, name string) *caaZone {
	t.Helper()
	z := &caaZone{name: name}
	z.addr = dnstest.ServeUDP(t, z)
	return z
}

func (z *caaZone) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg).SetReply(q)
	header := dns.RR_Header{Name: q.Question[0].Name, Rrtype: q.Question[0].Qtype, Class: dns.ClassINET}
	issue := z.caa.Load()
	switch {
	case header.Rrtype == dns.TypeA:
		m.Answer = append(m.Answer, &dns.A{Hdr: header, A: net.IPv4(127, 0, 0, 1)})
	case header.Rrtype == dns.TypeCAA && header.Name == z.name && issue != nil:
		m.Answer = append(m.Answer, &dns.CAA{Hdr: header, Tag: "issue", Value: *issue})
	}
	_ = w.WriteMsg(m) // the client may be gone
}

// preflightOf checks a name as acmeproxy check does.
func preflightOf(t *testing.T, p *proxytest.Proxy, resolver, name string) preflight.Report {
	t.Helper()
	checker, err := preflight.New(preflight.Config{
		Publish: func(ctx context.Context, host string) (preflight.Probe, error) {
			probe, err := p.Admin.AddProbe(ctx, admin.NewProbe{Name: host})
			return preflight.Probe{Token: probe.Token, Body: probe.Body, Remove: func() {
				if err := p.Admin.RemoveProbe(ctx, probe.Token); err != nil {
					t.Error(err)
				}
			}}, err
		},
		CA: func(ctx context.Context) (preflight.Authority, error) {
			ca, err := p.Admin.CA(ctx)
			return preflight.Authority{Identities: ca.CAAIdentities, AccountURL: ca.AccountURL}, err
		},
		Resolvers: []string{resolver},
		HTTPPort:  p.CA.HTTPPort,
	})
	if err != nil {
		t.Fatal(err)
	}
	return checker.Run(t.Context(), []string{name})
}

// The check of CAA records agrees with the CA, without a request to the CA (X13).
func TestCheckWithTheCA(t *testing.T) {
	t.Parallel()
	p := proxytest.Start(t, proxytest.Options{})
	zone := startCAAZone(t, "account.example.test.")
	check := func(name string) (port80, caa preflight.Check) {
		t.Helper()
		r := preflightOf(t, p, zone.addr, name).Names[0]
		if len(r.Checks) != 3 {
			t.Fatalf("%d checks: %+v", len(r.Checks), r.Checks)
		}
		return r.Checks[1], r.Checks[2]
	}
	port80, caa := check("web1.example.test")
	if port80.Verdict != preflight.OK || caa.Verdict != preflight.OK {
		t.Errorf("%+v, %+v", port80, caa)
	}
	zone.caa.Store(new("pebble.letsencrypt.org; accounturi=https://ca.example/1"))
	if _, caa = check("account.example.test"); caa.Verdict != preflight.Warning {
		t.Errorf("before the proxy has an account: %+v", caa)
	}
	if n := p.CA.Requests().Count(pebbletest.NewAccount) + p.CA.Requests().Count(pebbletest.NewOrder); n != 0 {
		t.Errorf("%d requests to the CA that are more than reading", n)
	}
	// An issuance registers the account, whose URL a record may then name.
	state := p.Enroll(t, "web1", proxytest.Grant(clients.ModeGateway, "**.example.test"))
	if _, err := proxytest.Get(t, state, clients.ModeGateway, "web1.example.test"); err != nil {
		t.Fatal(err)
	}
	if _, caa = check("account.example.test"); caa.Verdict != preflight.Fails || !strings.Contains(caa.Remedy, "accounturi=https://") {
		t.Fatalf("a record for another account: %+v", caa)
	}
	_, account, _ := strings.Cut(caa.Remedy, "accounturi=")
	zone.caa.Store(new("pebble.letsencrypt.org; accounturi=" + account))
	if _, caa = check("account.example.test"); caa.Verdict != preflight.OK {
		t.Errorf("with a record for this account: %+v", caa)
	}
	if strings.Contains(p.Log(), "acmeproxy-probe-") {
		t.Error("a probe is in the log")
	}
}

// The proxy chooses a probe's token and body. The probe is answered only for its name,
// and ends when it is removed or expires (X13).
func TestProbes(t *testing.T) {
	t.Parallel()
	p := proxytest.Start(t, proxytest.Options{Change: func(c *proxy.Config) { c.ACMEDirectoryURL = "https://127.0.0.1:1/dir" }})
	probe, err := p.Admin.AddProbe(t.Context(), admin.NewProbe{Name: "Web1.Example.TEST"})
	if err != nil {
		t.Fatal(err)
	}
	fetch := func(host string) (status int) {
		t.Helper()
		req, err := http.NewRequest(http.MethodGet, "http://"+p.HTTPAddr()+responder.Prefix+probe.Token, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	if got := fetch("web1.example.test"); got != http.StatusOK {
		t.Errorf("its own name: %d", got)
	}
	if got := fetch("web2.example.test"); got != http.StatusNotFound {
		t.Errorf("another name: %d", got)
	}
	for range 2 { // it may be gone already
		if err := p.Admin.RemoveProbe(t.Context(), probe.Token); err != nil {
			t.Fatal(err)
		}
	}
	if got := fetch("web1.example.test"); got != http.StatusNotFound {
		t.Errorf("after it was removed: %d", got)
	}

	refused := func(what string, err error, status int) {
		t.Helper()
		var problem *api.Problem
		if !errors.As(err, &problem) || problem.Status != status {
			t.Errorf("%s: %v, want %d", what, err, status)
		}
	}
	_, err = p.Admin.AddProbe(t.Context(), admin.NewProbe{Name: "no name"})
	refused("a bad name", err, http.StatusUnprocessableEntity)
	for range 64 {
		if _, err := p.Admin.AddProbe(t.Context(), admin.NewProbe{Name: "web1.example.test"}); err != nil {
			t.Fatal(err)
		}
	}
	_, err = p.Admin.AddProbe(t.Context(), admin.NewProbe{Name: "web1.example.test"})
	refused("one too many", err, http.StatusTooManyRequests)
	_, err = p.Admin.CA(t.Context())
	refused("a CA that is down", err, http.StatusBadGateway)
}
