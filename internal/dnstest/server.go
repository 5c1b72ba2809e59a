// Package dnstest runs a DNS server on loopback for tests of DNS-01. It is both the
// resolver and the name server of its zones. It accepts dynamic updates (RFC 2136) that
// are signed with its TSIG key (RFC 8945), and serves values that programs write to
// files.
//
//	server := dnstest.Start(t, dnstest.Options{Zones: []string{"example.com."}})
//	t.Setenv("DNSUPDATE_NAMESERVER", server.Addr)
//
// It listens on the loopback interface only and forwards nothing. Every name has the
// address 127.0.0.1.
package dnstest

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// Options configures the server.
type Options struct {
	Zones []string // with a full stop at the end
	// Delegated lists zones below one of these that other servers have. Queries for
	// them get a reference.
	Delegated []string
	CNAMEs    map[string]string // target by name, both with a full stop at the end
	// Dir holds a file for each name, of the same name, with one TXT value a line. If
	// empty, only updates and Add create records.
	Dir string
	// Key and Secret (base64) of TSIG; without a key, updates are refused.
	Key, Secret string
	// Refuse, if not 0, is the code of the answer to every update.
	Refuse int
	// Answer, if not nil, returns the code of the answer to a question. If it is not 0,
	// the answer has no records.
	Answer func(dns.Question) int
	// Unsigned leaves the signature out of all answers.
	Unsigned bool
}

// Update is a received update, accepted or refused.
type Update struct {
	Network string // tcp or udp
	Msg     *dns.Msg
}

// Server is a running DNS server.
type Server struct {
	Addr string // host:port, UDP and TCP
	Port string

	opts    Options
	mu      sync.Mutex
	txt     map[string][]string // guarded by mu
	most    map[string]int      // largest number of values of a name at one time; guarded by mu
	updates []string            // zones of accepted updates; guarded by mu
	refused int                 // updates; guarded by mu
	came    []Update            // guarded by mu
	asked   chan struct{}       // receives a value for each TXT question, unless it is full
}

// Start runs a server until the test ends.
func Start(t testing.TB, opts Options) *Server {
	t.Helper()
	s := &Server{opts: opts, txt: map[string][]string{}, most: map[string]int{}, asked: make(chan struct{}, 1)}
	tcp, udp := Listen(t)
	s.Addr = tcp.Addr().String()
	_, s.Port, _ = net.SplitHostPort(s.Addr)
	secrets := map[string]string{}
	if opts.Key != "" {
		secrets[opts.Key] = opts.Secret
	}
	all := func(dns.Header) dns.MsgAcceptAction { return dns.MsgAccept }
	Serve(t,
		&dns.Server{Listener: tcp, Handler: s, TsigSecret: secrets, MsgAcceptFunc: all},
		&dns.Server{PacketConn: udp, Handler: s, TsigSecret: secrets, MsgAcceptFunc: all})
	return s
}

// ServeUDP runs a server with another handler until the test ends, and returns its
// address.
func ServeUDP(t testing.TB, handler dns.Handler) (addr string) {
	t.Helper()
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	Serve(t, &dns.Server{PacketConn: packets, Handler: handler})
	return packets.LocalAddr().String()
}

// Serve runs servers, whose ports are open, until the test ends.
func Serve(t testing.TB, servers ...*dns.Server) {
	t.Helper()
	for _, server := range servers {
		ready := make(chan struct{})
		server.NotifyStartedFunc = func() { close(ready) }
		done := make(chan error, 1)
		go func() { done <- server.ActivateAndServe() }()
		<-ready
		t.Cleanup(func() {
			if err := server.Shutdown(); err != nil {
				t.Errorf("stop the DNS server: %v", err)
			}
			if err := <-done; err != nil {
				t.Errorf("DNS server: %v", err)
			}
		})
	}
}

// Listen listens on a port that is free for both TCP and UDP.
func Listen(t testing.TB) (net.Listener, net.PacketConn) {
	t.Helper()
	for range 100 {
		tcp, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		udp, err := net.ListenPacket("udp", tcp.Addr().String())
		if err == nil {
			return tcp, udp
		}
		tcp.Close()
	}
	t.Fatal("no port is free on both UDP and TCP")
	return nil, nil
}

// ServeDNS implements dns.Handler.
func (s *Server) ServeDNS(w dns.ResponseWriter, r *dns.Msg) {
	m := new(dns.Msg).SetReply(r)
	if r.Opcode == dns.OpcodeUpdate {
		m.Rcode = s.update(w, r)
	} else if len(r.Question) == 1 {
		s.answer(m, r.Question[0])
	}
	if t := r.IsTsig(); t != nil && !s.opts.Unsigned {
		m.SetTsig(t.Hdr.Name, t.Algorithm, 300, time.Now().Unix())
		if status := w.TsigStatus(); status != nil { // RFC 8945, section 5.3.2
			m.Rcode, m.Answer, m.Ns = dns.RcodeNotAuth, nil, nil
			m.IsTsig().Error = dns.RcodeBadSig
		}
	}
	_ = w.WriteMsg(m) // the client may be gone
}

func (s *Server) answer(m *dns.Msg, q dns.Question) {
	if s.opts.Answer != nil {
		if m.Rcode = s.opts.Answer(q); m.Rcode != dns.RcodeSuccess {
			return
		}
	}
	m.Authoritative = true
	name := strings.ToLower(q.Name)
	header := func(kind uint16) dns.RR_Header {
		return dns.RR_Header{Name: q.Name, Rrtype: kind, Class: dns.ClassINET, Ttl: 1}
	}
	if target, ok := s.opts.CNAMEs[name]; ok {
		m.Answer = append(m.Answer, &dns.CNAME{Hdr: header(dns.TypeCNAME), Target: target})
		name = target
	}
	apex := slices.Contains(s.opts.Zones, name)
	switch {
	case q.Qtype == dns.TypeSOA && apex:
		m.Answer = append(m.Answer, soa(header(dns.TypeSOA), name))
	case q.Qtype == dns.TypeNS && apex:
		m.Answer = append(m.Answer, &dns.NS{Hdr: header(dns.TypeNS), Ns: "ns1." + name})
	case q.Qtype == dns.TypeA:
		m.Answer = append(m.Answer, &dns.A{Hdr: header(dns.TypeA), A: net.IPv4(127, 0, 0, 1)})
	case q.Qtype == dns.TypeTXT:
		for _, value := range s.TXT(name) {
			m.Answer = append(m.Answer, &dns.TXT{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: 1}, Txt: []string{value}})
		}
		select {
		case s.asked <- struct{}{}:
		default:
		}
	}
	if len(m.Answer) == 0 {
		s.authority(m, name, header)
	}
}

// authority adds a referral, or the start of authority of a negative answer.
func (s *Server) authority(m *dns.Msg, name string, header func(uint16) dns.RR_Header) {
	if zone := above(s.opts.Delegated, name); zone != "" {
		m.Authoritative = false
		ns := &dns.NS{Hdr: header(dns.TypeNS), Ns: "ns1." + zone}
		ns.Hdr.Name = zone
		m.Ns = append(m.Ns, ns)
	} else if zone := above(s.opts.Zones, name); zone != "" {
		rr := soa(header(dns.TypeSOA), zone)
		rr.Hdr.Name = zone
		m.Ns = append(m.Ns, rr)
	} else {
		m.Rcode = dns.RcodeRefused
	}
}

// above returns the longest zone that has the name, or an empty string.
func above(zones []string, name string) (longest string) {
	for _, zone := range zones {
		if dns.IsSubDomain(zone, name) && len(zone) > len(longest) {
			longest = zone
		}
	}
	return longest
}

func soa(h dns.RR_Header, zone string) *dns.SOA {
	return &dns.SOA{Hdr: h, Ns: "ns1." + zone, Mbox: "ops." + zone, Serial: 1, Refresh: 1, Retry: 1, Expire: 1, Minttl: 1}
}

// update applies an update to TXT records (RFC 2136, section 3.4) and returns the code
// of its answer.
func (s *Server) update(w dns.ResponseWriter, r *dns.Msg) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.came = append(s.came, Update{w.RemoteAddr().Network(), r})
	zone := r.Question[0].Name
	code := s.opts.Refuse
	switch {
	case code != 0:
	case r.IsTsig() == nil:
		code = dns.RcodeRefused
	case w.TsigStatus() != nil || !slices.Contains(s.opts.Zones, zone):
		code = dns.RcodeNotAuth
	}
	if code != 0 {
		s.refused++
		return code
	}
	for _, rr := range r.Ns {
		name := strings.ToLower(rr.Header().Name)
		txt, ok := rr.(*dns.TXT)
		switch {
		case rr.Header().Class == dns.ClassANY:
			delete(s.txt, name)
		case rr.Header().Class == dns.ClassNONE && ok:
			s.txt[name] = slices.DeleteFunc(s.txt[name], func(v string) bool { return v == strings.Join(txt.Txt, "") })
		case ok:
			s.add(name, strings.Join(txt.Txt, ""))
		default:
			return dns.RcodeFormatError
		}
	}
	s.updates = append(s.updates, zone)
	return dns.RcodeSuccess
}

// add is called with mu held.
func (s *Server) add(name, value string) {
	if !slices.Contains(s.txt[name], value) {
		s.txt[name] = append(s.txt[name], value)
	}
	s.most[name] = max(s.most[name], len(s.txt[name]))
}

// Add adds a TXT value to a name.
func (s *Server) Add(name, value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.add(strings.ToLower(name), value)
}

// Remove removes a TXT value from a name.
func (s *Server) Remove(name, value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name = strings.ToLower(name)
	s.txt[name] = slices.DeleteFunc(s.txt[name], func(v string) bool { return v == value })
}

// TXT returns the values of a name.
func (s *Server) TXT(name string) []string {
	s.mu.Lock()
	values := slices.Clone(s.txt[name])
	s.mu.Unlock()
	if s.opts.Dir != "" && filepath.IsLocal(name) {
		text, err := os.ReadFile(filepath.Join(s.opts.Dir, name))
		if err == nil {
			values = append(values, strings.Fields(string(text))...)
		}
	}
	return values
}

// Most returns the largest number of values that a name had at one time, without files.
func (s *Server) Most(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.most[name]
}

// Updates returns the zones of accepted updates, and the number of refused ones.
func (s *Server) Updates() (zones []string, refused int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.updates), s.refused
}

// Came returns all updates, in order.
func (s *Server) Came() []Update {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.came)
}

// Asked receives a value after a question for a TXT record.
func (s *Server) Asked() <-chan struct{} { return s.asked }
