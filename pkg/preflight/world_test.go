package preflight_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/acmeproxy/acmeproxy/internal/dnstest"
	"github.com/acmeproxy/acmeproxy/pkg/preflight"
	"github.com/acmeproxy/acmeproxy/pkg/responder"
)

// zone is a DNS server on loopback. A name that it does not know is NXDOMAIN.
type zone struct {
	records map[string][]dns.RR // by name
	rcodes  map[string]int      // by name and type: "example.test. CAA"
	asked   sync.Map            // *atomic.Int32 by name and type
}

// startZone serves records in the text form of RFC 1035.
func startZone(t *testing.T, rcodes map[string]int, records ...string) (addr string) {
	t.Helper()
	_, addr = newZone(t, rcodes, records...)
	return addr
}

func newZone(t *testing.T, rcodes map[string]int, records ...string) (z *zone, addr string) {
	t.Helper()
	z = &zone{records: map[string][]dns.RR{}, rcodes: rcodes}
	for _, r := range records {
		rr, err := dns.NewRR(r)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.ToLower(rr.Header().Name)
		z.records[name] = append(z.records[name], rr)
	}
	stream, packets := dnstest.Listen(t)
	dnstest.Serve(t, &dns.Server{PacketConn: packets, Handler: z}, &dns.Server{Listener: stream, Handler: z})
	return z, packets.LocalAddr().String()
}

// ServeDNS follows aliases, as a recursive resolver does.
func (z *zone) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg).SetReply(q)
	name, qtype := strings.ToLower(q.Question[0].Name), q.Question[0].Qtype
	n, _ := z.asked.LoadOrStore(name+" "+dns.TypeToString[qtype], new(atomic.Int32))
	n.(*atomic.Int32).Add(1)
	m.Rcode = z.rcodes[name+" "+dns.TypeToString[qtype]]
	for m.Rcode == dns.RcodeSuccess {
		all, known := z.records[name]
		if !known {
			m.Rcode = dns.RcodeNameError
			break
		}
		alias := ""
		for _, rr := range all {
			if rr.Header().Rrtype == qtype {
				m.Answer = append(m.Answer, rr)
			} else if c, ok := rr.(*dns.CNAME); ok {
				m.Answer = append(m.Answer, rr)
				alias = c.Target
			}
		}
		if alias == "" {
			break
		}
		name = alias
	}
	if w.LocalAddr().Network() == "udp" {
		size := dns.MinMsgSize
		if opt := q.IsEdns0(); opt != nil {
			size = int(opt.UDPSize())
		}
		m.Truncate(size)
	}
	_ = w.WriteMsg(m) // the client may be gone
}

// world is what a Checker looks at.
type world struct {
	responder *responder.Responder
	cfg       preflight.Config
	authority preflight.Authority
	asked     int // how often CA was called
}

func newWorld(t *testing.T, dnsServer string) *world {
	w := &world{
		responder: responder.New(),
		authority: preflight.Authority{Identities: []string{"ca.test", "other-name.ca.test"}, AccountURL: "https://ca.test/acct/1"},
	}
	w.cfg = preflight.Config{
		Publish: func(_ context.Context, host string) (preflight.Probe, error) {
			answer := w.responder.Put(host, "token", "body")
			return preflight.Probe{Token: "token", Body: "body", Remove: answer.Remove}, nil
		},
		CA:        func(context.Context) (preflight.Authority, error) { w.asked++; return w.authority, nil },
		Resolvers: []string{dnsServer}, ResolverSetting: "--resolver",
		UserAgent: "acmeproxy-check/test",
		DNS01:     true,
		Timeout:   10 * time.Second,
	}
	t.Cleanup(func() {
		if n := w.responder.Len(); n != 0 {
			t.Errorf("%d probes were left behind", n)
		}
	})
	return w
}

// web serves port 80 at 127.0.0.1.
func (w *world) web(t *testing.T, h http.Handler) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	w.cfg.HTTPPort = portOf(t, s.URL)
	return s
}

func portOf(t *testing.T, rawURL string) int {
	t.Helper()
	u, err := url.Parse(rawURL)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func (w *world) run(t *testing.T, names ...string) preflight.Report {
	t.Helper()
	c, err := preflight.New(w.cfg)
	if err != nil {
		t.Fatal(err)
	}
	r := c.Run(t.Context(), names)
	if len(r.Names) != len(names) || r.Viewpoint == "" {
		t.Fatalf("report %+v", r)
	}
	for _, n := range r.Names {
		for _, c := range n.Checks {
			if strings.Contains(c.Detail+c.Remedy, "\n") || (c.Verdict == preflight.Fails || c.Verdict == preflight.Warning) && c.Remedy == "" {
				t.Errorf("%s: one line each is wanted, and a remedy: %+v", n.Name, c)
			}
		}
	}
	return r
}

// only is the one check of a kind, at an address if one is given.
func only(t *testing.T, r preflight.Result, kind string, addr ...string) preflight.Check {
	t.Helper()
	var found []preflight.Check
	for _, c := range r.Checks {
		if c.Check == kind && (len(addr) == 0 || c.Address == netip.MustParseAddr(addr[0])) {
			found = append(found, c)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%s: %d checks of %s %v, want one: %+v", r.Name, len(found), kind, addr, r.Checks)
	}
	return found[0]
}

func wants(t *testing.T, what string, c preflight.Check, v preflight.Verdict, texts ...string) {
	t.Helper()
	missing := slices.DeleteFunc(slices.Clone(texts), func(s string) bool { return strings.Contains(c.Detail+"\n"+c.Remedy, s) })
	if c.Verdict != v || len(missing) > 0 {
		t.Errorf("%s: %q, %q, %q; want %q with %q", what, c.Verdict, c.Detail, c.Remedy, v, missing)
	}
}
