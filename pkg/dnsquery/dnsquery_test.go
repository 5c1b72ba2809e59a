package dnsquery_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/acmeproxy/acmeproxy/internal/dnstest"
	"github.com/acmeproxy/acmeproxy/pkg/dnsquery"
)

// serve starts a DNS server on loopback, for UDP and, if tcp is set, TCP.
func serve(t *testing.T, tcp bool, handle func(network string, q *dns.Msg) *dns.Msg) (addr string) {
	t.Helper()
	stream, packets := dnstest.Listen(t)
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		if answer := handle(w.LocalAddr().Network(), q); answer != nil {
			w.WriteMsg(answer)
		}
	})
	servers := []*dns.Server{{PacketConn: packets, Handler: handler}}
	if tcp {
		servers = append(servers, &dns.Server{Listener: stream, Handler: handler})
	} else {
		stream.Close()
	}
	dnstest.Serve(t, servers...)
	return packets.LocalAddr().String()
}

func rr(t *testing.T, text string) dns.RR {
	t.Helper()
	r, err := dns.NewRR(text)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func ask(t *testing.T, server string, kind uint16) (*dnsquery.Answer, error) {
	t.Helper()
	return dnsquery.Ask(t.Context(), server, dnsquery.Question{Name: "a.example.", Type: kind, Recursive: true, Timeout: 2 * time.Second})
}

// A server that does not know EDNS is asked without it.
func TestWithoutEDNS(t *testing.T) {
	t.Parallel()
	for _, rcode := range []int{dns.RcodeFormatError, dns.RcodeNotImplemented, dns.RcodeBadVers} {
		addr := serve(t, true, func(_ string, q *dns.Msg) *dns.Msg {
			m := new(dns.Msg).SetReply(q)
			if q.IsEdns0() != nil {
				m.Rcode = rcode & 0xf
				m.Question = nil // it could not read that either
				if rcode > 0xf {
					m.SetEdns0(512, false)
					m.Rcode = rcode
					m.Question = q.Question
				}
				return m
			}
			m.Answer = append(m.Answer, rr(t, "a.example. A 192.0.2.1"))
			return m
		})
		answer, err := ask(t, addr, dns.TypeA)
		if err != nil || answer.Rcode != dns.RcodeSuccess || len(answer.Records) != 1 {
			t.Errorf("%s: %+v, %v", dns.RcodeToString[rcode], answer, err)
		}
	}
}

// An answer that is too long for UDP comes by TCP; where TCP is closed, the
// part that came counts.
func TestTruncated(t *testing.T) {
	t.Parallel()
	for _, tcp := range []bool{true, false} {
		addr := serve(t, tcp, func(network string, q *dns.Msg) *dns.Msg {
			m := new(dns.Msg).SetReply(q)
			for i := range 100 {
				m.Answer = append(m.Answer, rr(t, fmt.Sprintf("a.example. A 192.0.2.%d", i)))
			}
			if network == "udp" {
				m.Truncate(512)
			}
			return m
		})
		answer, err := ask(t, addr, dns.TypeA)
		if err != nil || (len(answer.Records) == 100) != tcp || len(answer.Records) == 0 {
			t.Errorf("TCP %t: %v", tcp, err)
		}
	}
}

// Only records that answer the question count: of the name or where its
// aliases lead, of the type, and not too many.
func TestRecords(t *testing.T) {
	t.Parallel()
	var many, long []string
	for i := range 2000 {
		many = append(many, fmt.Sprintf("a.example. A 10.0.%d.%d", i/256, i%256))
	}
	for i := range 20 {
		long = append(long, fmt.Sprintf("%s CNAME n%d.example.", map[bool]string{true: "a.example.", false: fmt.Sprintf("n%d.example.", i-1)}[i == 0], i))
	}
	for name, test := range map[string]struct {
		records []string
		want    int // -1: ErrAliases
	}{
		"plain":            {[]string{"a.example. A 192.0.2.1", "A.EXAMPLE. A 192.0.2.2"}, 2},
		"another name":     {[]string{"evil.example. A 192.0.2.1"}, 0},
		"below":            {[]string{"b.a.example. A 192.0.2.1"}, 0},
		"another type":     {[]string{"a.example. TXT x", "a.example. AAAA 2001:db8::1"}, 0},
		"another class":    {[]string{"a.example. CH A 192.0.2.1"}, 0},
		"alias":            {[]string{"a.example. CNAME b.example.", "b.example. A 192.0.2.1"}, 2},
		"alias, unordered": {[]string{"b.example. A 192.0.2.1", "a.example. CNAME b.example."}, 2},
		"beside an alias":  {[]string{"a.example. CNAME b.example.", "c.example. A 192.0.2.1"}, 1},
		"two aliases":      {[]string{"a.example. CNAME b.example.", "a.example. CNAME c.example.", "c.example. A 192.0.2.1"}, 1},
		"loop":             {[]string{"a.example. CNAME b.example.", "b.example. CNAME a.example."}, -1},
		"itself":           {[]string{"a.example. CNAME a.example."}, -1},
		"long chain":       {long, -1},
		"many":             {many, 1000},
	} {
		addr := serve(t, true, func(network string, q *dns.Msg) *dns.Msg {
			m := new(dns.Msg).SetReply(q)
			if network == "udp" && len(test.records) > 10 {
				m.Truncated = true
				return m
			}
			for _, r := range test.records {
				m.Answer = append(m.Answer, rr(t, r))
			}
			return m
		})
		answer, err := ask(t, addr, dns.TypeA)
		switch {
		case test.want < 0:
			if !errors.Is(err, dnsquery.ErrAliases) {
				t.Errorf("%s: %+v, %v", name, answer, err)
			}
		case err != nil || len(answer.Records) != test.want:
			t.Errorf("%s: %+v, %v; want %d records", name, answer, err, test.want)
		}
	}
}

// An answer to another question is an error.
func TestMismatch(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*dns.Msg){
		"name":      func(m *dns.Msg) { m.Question[0].Name = "evil.example." },
		"type":      func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeTXT },
		"class":     func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS },
		"none":      func(m *dns.Msg) { m.Question = nil },
		"two":       func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) },
		"operation": func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify },
		"question":  func(m *dns.Msg) { m.Response = false },
	} {
		addr := serve(t, true, func(_ string, q *dns.Msg) *dns.Msg {
			m := new(dns.Msg).SetReply(q)
			m.Answer = append(m.Answer, rr(t, "a.example. A 192.0.2.1"))
			spoil(m)
			return m
		})
		if answer, err := ask(t, addr, dns.TypeA); !errors.Is(err, dnsquery.ErrMismatch) {
			t.Errorf("%s: %+v, %v", name, answer, err)
		}
	}
}

// The context ends a question that is not answered.
func TestCancel(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var asked atomic.Int32
	addr := serve(t, true, func(string, *dns.Msg) *dns.Msg {
		asked.Add(1)
		cancel()
		return nil
	})
	_, err := dnsquery.Ask(ctx, addr, dnsquery.Question{Name: "a.example.", Type: dns.TypeA, Timeout: time.Hour})
	if !errors.Is(err, context.Canceled) || asked.Load() != 1 {
		t.Errorf("%v after %d questions", err, asked.Load())
	}
	if text := dnsquery.RcodeText(3841); !strings.Contains(text, "3841") {
		t.Errorf("unknown code: %q", text)
	}
}
