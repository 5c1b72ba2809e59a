package validation_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/acmeproxy/acmeproxy/internal/dnstest"
	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver/validation"
)

const (
	token            = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"
	keyAuthorization = token + ".9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI"
	// secret is what no problem may repeat.
	secret = "internal-secret"
)

// world is a DNS server and servers on loopback that share one port.
type world struct {
	validation.Network
	mu      sync.Mutex
	records []dns.RR       // guarded by mu
	rcodes  map[string]int // by name; guarded by mu
}

func newWorld(t *testing.T, records ...string) *world {
	t.Helper()
	w := &world{rcodes: map[string]int{}}
	w.Network = validation.Network{
		Allow:     []netip.Prefix{netip.MustParsePrefix("127.0.0.0/28"), netip.MustParsePrefix("::1/128")},
		Resolvers: []string{dnstest.ServeUDP(t, w)},
		Timeout:   20 * time.Second, Attempts: 1,
	}
	w.add(t, records...)
	return w
}

func (w *world) add(t *testing.T, records ...string) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, text := range records {
		rr, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		w.records = append(w.records, rr)
	}
}

// fail makes the answers to questions for a name SERVFAIL.
func (w *world) fail(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rcodes[name] = dns.RcodeServerFailure
}

// ServeDNS implements dns.Handler. A name without records does not exist.
func (w *world) ServeDNS(out dns.ResponseWriter, q *dns.Msg) {
	w.mu.Lock()
	defer w.mu.Unlock()
	m := new(dns.Msg).SetReply(q)
	name := strings.ToLower(q.Question[0].Name)
	m.Rcode = dns.RcodeNameError
	for range 2 { // the alias and its target
		next := name
		for _, rr := range w.records {
			if !strings.EqualFold(rr.Header().Name, name) {
				continue
			}
			m.Rcode = dns.RcodeSuccess
			alias, isAlias := rr.(*dns.CNAME)
			if isAlias {
				next = alias.Target
			}
			if isAlias || rr.Header().Rrtype == q.Question[0].Qtype {
				m.Answer = append(m.Answer, rr)
			}
		}
		if next == name {
			break
		}
		name = next
	}
	if rcode, ok := w.rcodes[name]; ok {
		m.Rcode = rcode
	}
	_ = out.WriteMsg(m) // the client may be gone
}

// listen returns listeners on one port at all the addresses.
func listen(t *testing.T, addrs ...string) (port int, all []net.Listener) {
	t.Helper()
	for range 100 {
		all, port = nil, 0
		for _, addr := range addrs {
			l, err := net.Listen("tcp", net.JoinHostPort(addr, strconv.Itoa(port)))
			if err != nil {
				break
			}
			all = append(all, l)
			port = l.Addr().(*net.TCPAddr).Port
		}
		if len(all) == len(addrs) {
			t.Cleanup(func() {
				for _, l := range all {
					l.Close()
				}
			})
			return port, all
		}
		for _, l := range all {
			l.Close()
		}
	}
	t.Fatalf("no port is free at all of %v", addrs)
	return 0, nil
}

// serveHTTP serves at the addresses on one port, which becomes the world's port 80. The
// handler of address i is handlers[i], or the last one.
func (w *world) serveHTTP(t *testing.T, addrs []string, handlers ...http.HandlerFunc) {
	t.Helper()
	port, listeners := listen(t, addrs...)
	for i, l := range listeners {
		serve(t, l, handlers[min(i, len(handlers)-1)])
	}
	w.HTTPPort = port
}

func serve(t *testing.T, l net.Listener, h http.HandlerFunc) {
	t.Helper()
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: h}}
	s.Start()
	t.Cleanup(s.Close)
}

// correct answers the challenge.
func correct(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/.well-known/acme-challenge/"+token {
		http.NotFound(w, r)
		return
	}
	_, _ = w.Write([]byte(keyAuthorization))
}

func validationOf(kind, id string) acmeserver.Validation {
	v := acmeserver.Validation{
		Type: kind, Identifier: acme.Identifier{Type: acme.TypeDNS, Value: id},
		Token: token, KeyAuthorization: keyAuthorization,
	}
	if _, err := netip.ParseAddr(id); err == nil {
		v.Identifier.Type = acme.TypeIP
	}
	return v
}

// wantProblem checks the type and the text of a problem, and that it reveals nothing.
func wantProblem(t *testing.T, err error, kind, text string) {
	t.Helper()
	var p *acme.Problem
	if !errors.As(err, &p) || p.Type != kind || !strings.Contains(p.Detail, text) {
		t.Errorf("got %v, want %s with %q", err, acme.ShortType(kind), text)
		return
	}
	for _, hidden := range []string{secret, "127.0.0", "::1", "10.0.0", "169.254", keyAuthorization} {
		if strings.Contains(p.Detail, hidden) {
			t.Errorf("the problem reveals %q: %s", hidden, p.Detail)
		}
	}
}

// The first attempts that fail are repeated, the last one is a problem, and an end of the
// server is neither.
func TestAttempts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Attempts = 3
	v := validationOf(acme.HTTP01, "missing.example.com")
	for ; v.Attempts < 2; v.Attempts++ {
		var later *acmeserver.Later
		if err := (validation.HTTP01{Network: w.Network}).Validate(t.Context(), v); !errors.As(err, &later) || later.Reason == "" {
			t.Errorf("attempt %d: %v", v.Attempts, err)
		}
	}
	wantProblem(t, validation.HTTP01{Network: w.Network}.Validate(t.Context(), v), acme.DNS, "no such name")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	var p *acme.Problem
	if err := (validation.HTTP01{Network: w.Network}).Validate(ended, v); err == nil || errors.As(err, &p) {
		t.Errorf("ended: %v", err)
	}
	// What no attempt can change is final.
	wantProblem(t, validation.HTTP01{Network: w.Network}.Validate(t.Context(), validationOf(acme.HTTP01, "10.0.0.1")), acme.Connection, "does not connect")
}

// DNS failures have their own problems.
func TestDNSFaults(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "empty.example.com. TXT x", "private.example.com. A 10.0.0.1", "private.example.com. AAAA fe80::1",
		"loop.example.com. CNAME loop.example.com.", "partial.example.com. A 127.0.0.1")
	w.fail("broken.example.com.")
	for name, want := range map[string]string{
		"missing.example.com": "DNS has no such name",
		"empty.example.com":   "no address in DNS",
		"private.example.com": "no address in DNS that this server connects to",
		"broken.example.com":  "SERVFAIL",
		"loop.example.com":    "no end",
	} {
		for kind, v := range validation.All(w.Network) {
			if kind == acme.DNS01 {
				continue
			}
			wantProblem(t, v.Validate(t.Context(), validationOf(kind, name)), acme.DNS, want)
		}
	}
	w.Resolvers = []string{"127.0.0.1:1"}
	wantProblem(t, validation.HTTP01{Network: w.Network}.Validate(t.Context(), validationOf(acme.HTTP01, "a.example.com")), acme.DNS, "not answered")
}

// Only dns-01 proves a wildcard, whatever the policy offers.
func TestWildcard(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a.example.com. A 127.0.0.1")
	w.serveHTTP(t, []string{"127.0.0.1"}, correct)
	w.Attempts = 3
	for kind, validator := range validation.All(w.Network) {
		v := validationOf(kind, "a.example.com")
		v.Wildcard = true
		if kind != acme.DNS01 {
			wantProblem(t, validator.Validate(t.Context(), v), acme.Malformed, "use dns-01")
		}
	}
}

// count is a handler that must not be called.
func count(n *atomic.Int32) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		n.Add(1)
		_, _ = w.Write([]byte(secret))
	}
}

// problemType returns the type of a problem, for a check of its text only.
func problemType(err error) string {
	var p *acme.Problem
	if errors.As(err, &p) {
		return p.Type
	}
	return "none"
}
