// Package dnsquery asks one DNS server one question and checks the answer: it must
// be to that question, and only the records that answer it are returned.
//
// It falls back where servers on the Internet are imperfect: without EDNS to a
// server that does not know it, by TCP if an answer is too long for UDP. It never
// decides from one server's failure that a name is broken: its callers do.
//
//	answer, err := dnsquery.Ask(ctx, "192.0.2.53:53", dnsquery.Question{Name: "example.com.", Type: dns.TypeTXT})
//	for _, rr := range answer.Records { … }
package dnsquery

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// Bounds of an answer.
const (
	maxRecords = 1000 // of one section; what is beyond is dropped
	maxAliases = 10
	udpSize    = 1232

	// DefaultTimeout bounds one exchange.
	DefaultTimeout = 5 * time.Second
)

// Question is what a server is asked.
type Question struct {
	Name      string // with a full stop at the end
	Type      uint16
	Recursive bool          // the server is a resolver
	Timeout   time.Duration // for one exchange; 0: DefaultTimeout. There are four at most.
}

// Answer is a checked answer.
type Answer struct {
	Rcode         int
	Authoritative bool
	// Records are the aliases from the question's name on, each of which follows
	// from the one before, and the records of the question's type at their end.
	Records []dns.RR
}

var (
	// ErrMismatch is an answer to something else.
	ErrMismatch = errors.New("the answer is not to the question")
	// ErrAliases is a chain of aliases that does not end.
	ErrAliases = errors.New("its CNAMEs have no end")
)

// Ask asks a server, host:port. Any code of an answer is a success. ctx ends it
// at once.
func Ask(ctx context.Context, server string, q Question) (*Answer, error) {
	m := new(dns.Msg).SetQuestion(q.Name, q.Type)
	m.RecursionDesired = q.Recursive
	m.SetEdns0(udpSize, false)
	answer, err := exchange(ctx, "udp", server, m, q.Timeout)
	if err == nil && refusesEDNS(answer) {
		m.Extra = nil
		answer, err = exchange(ctx, "udp", server, m, q.Timeout)
	}
	if err != nil {
		return nil, err
	}
	if answer.Truncated {
		whole, err := exchange(ctx, "tcp", server, m, q.Timeout)
		switch {
		case err == nil:
			answer = whole
		case ctx.Err() != nil || len(answer.Answer) == 0: // else a part is better than nothing
			return nil, err
		}
	}
	records, err := chain(answer.Answer, q)
	if err != nil {
		return nil, err
	}
	return &Answer{answer.Rcode, answer.Authoritative, records}, nil
}

// refusesEDNS reports whether the server does not know EDNS (RFC 6891, section 7).
func refusesEDNS(answer *dns.Msg) bool {
	switch answer.Rcode {
	case dns.RcodeFormatError, dns.RcodeNotImplemented, dns.RcodeBadVers:
		return true
	}
	return false
}

func exchange(ctx context.Context, network, server string, m *dns.Msg, timeout time.Duration) (*dns.Msg, error) {
	if timeout == 0 {
		timeout = DefaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	client := &dns.Client{Net: network, Timeout: timeout, UDPSize: udpSize}
	conn, err := client.DialContext(ctx, server)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	answer, _, err := client.ExchangeWithConnContext(ctx, m, conn)
	if err != nil {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%w: %w", ctx.Err(), err)
		}
		return nil, err
	}
	return answer, Check(m, answer)
}

// Check reports whether an answer belongs to a question: id, kind and name. A
// server that cannot read the question may leave it out.
func Check(question, answer *dns.Msg) error {
	if answer.Id != question.Id || !answer.Response || answer.Opcode != question.Opcode {
		return ErrMismatch
	}
	if len(answer.Question) == 0 && answer.Rcode != dns.RcodeSuccess && answer.Rcode != dns.RcodeNameError {
		return nil
	}
	if len(answer.Question) != 1 {
		return ErrMismatch
	}
	asked, got := question.Question[0], answer.Question[0]
	if got.Qtype != asked.Qtype || got.Qclass != asked.Qclass || !strings.EqualFold(got.Name, asked.Name) {
		return ErrMismatch
	}
	return nil
}

// chain returns the records that answer a question, in order, and no others.
func chain(all []dns.RR, q Question) ([]dns.RR, error) {
	all = all[:min(len(all), maxRecords)]
	var records []dns.RR
	at := q.Name
	for range maxAliases + 1 {
		next := ""
		for _, rr := range all {
			h := rr.Header()
			if h.Class != dns.ClassINET || !strings.EqualFold(h.Name, at) {
				continue
			}
			alias, isAlias := rr.(*dns.CNAME)
			if h.Rrtype == q.Type || isAlias && next == "" {
				records = append(records, rr)
			}
			if isAlias && next == "" {
				next = alias.Target
			}
		}
		if next == "" || q.Type == dns.TypeCNAME {
			return records, nil
		}
		at = next
	}
	return nil, ErrAliases
}

// RcodeText returns the name of a code.
func RcodeText(rcode int) string {
	if text := dns.RcodeToString[rcode]; text != "" {
		return text
	}
	return fmt.Sprintf("code %d", rcode)
}
