// Package dnsquery exchanges messages with DNS servers and checks each answer: it must
// be to the question, and only the records that answer it are returned.
//
// It copes with imperfect servers: it asks again without EDNS if a server does not
// know it, and by TCP if an answer is too long for UDP. It never decides from one
// server's failure that a name is broken. That is for its callers.
//
//	question := dnsquery.Question{Name: "example.com.", Type: dns.TypeTXT}
//	answer, err := dnsquery.Ask(ctx, "192.0.2.53:53", question)
//	for _, rr := range answer.Records { … }
package dnsquery

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// Bounds of an answer.
const (
	maxRecords = 1000 // of one section; the others are dropped
	maxAliases = 10
	udpSize    = 1232

	// DefaultTimeout limits one exchange.
	DefaultTimeout = 5 * time.Second
)

// Question is a question for a server.
type Question struct {
	Name      string // with a full stop at the end
	Type      uint16
	Recursive bool // true if the server is a resolver
	// Timeout limits one exchange; if zero, DefaultTimeout. Ask needs three at most.
	Timeout time.Duration
}

// Answer is a checked answer.
type Answer struct {
	Rcode         int // NOERROR or NXDOMAIN
	Authoritative bool
	// Records are the aliases from the question's name on, each of which follows
	// from the one before, and the records of the question's type at their end.
	Records []dns.RR
}

var (
	// ErrNoAnswer reports that a server sent no usable answer.
	ErrNoAnswer = errors.New("does not answer")
	// ErrAliases reports a chain of aliases that does not end.
	ErrAliases = errors.New("the CNAMEs have no end")

	errNoServer = errors.New("no DNS server is configured")
)

// RcodeError reports an answer that is an error, such as SERVFAIL.
type RcodeError struct {
	Server string // host:port
	Rcode  int    // neither NOERROR nor NXDOMAIN
}

func (e *RcodeError) Error() string { return e.Server + " answers " + RcodeText(e.Rcode) }

// AskFirst asks the servers, each host:port, in turn until one answers. Its error is
// that of the last server.
func AskFirst(ctx context.Context, servers []string, q Question) (answer *Answer, err error) {
	err = errNoServer
	for _, server := range servers {
		if answer, err = Ask(ctx, server, q); err == nil {
			return answer, nil
		}
	}
	return nil, err
}

// Ask asks a server, host:port, and returns its answer, or an error that names the
// server and wraps ErrNoAnswer, ErrAliases or a *RcodeError. It returns as soon as
// ctx ends.
func Ask(ctx context.Context, server string, q Question) (*Answer, error) {
	answer, err := ask(ctx, server, q)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s %w: %w", server, ErrNoAnswer, shorten(err))
	case !hasContent(answer.Rcode):
		return nil, &RcodeError{server, answer.Rcode}
	}
	records, err := chain(answer.Answer, q)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", server, err)
	}
	return &Answer{answer.Rcode, answer.Authoritative, records}, nil
}

func ask(ctx context.Context, server string, q Question) (*dns.Msg, error) {
	if q.Timeout == 0 {
		q.Timeout = DefaultTimeout
	}
	m := new(dns.Msg).SetQuestion(q.Name, q.Type)
	m.RecursionDesired = q.Recursive
	m.SetEdns0(udpSize, false)
	client := &dns.Client{Net: "udp", Timeout: q.Timeout, UDPSize: udpSize}
	answer, err := Exchange(ctx, client, server, m)
	if err == nil && refusesEDNS(answer) {
		m.Extra = nil
		answer, err = Exchange(ctx, client, server, m)
	}
	if err != nil || !answer.Truncated {
		return answer, err
	}
	client.Net = "tcp"
	full, err := Exchange(ctx, client, server, m)
	if err != nil && ctx.Err() == nil && len(answer.Answer) > 0 {
		return answer, nil // a part is better than nothing
	}
	return full, err
}

// refusesEDNS reports whether the server does not know EDNS (RFC 6891, section 7).
func refusesEDNS(answer *dns.Msg) bool {
	switch answer.Rcode {
	case dns.RcodeFormatError, dns.RcodeNotImplemented, dns.RcodeBadVers:
		return true
	}
	return false
}

// shorten drops the addresses and calls that an error of package net repeats.
func shorten(err error) error {
	var op *net.OpError
	var timeout net.Error
	switch {
	case errors.Is(err, context.Canceled):
		return context.Canceled
	case errors.As(err, &timeout) && timeout.Timeout():
		return errors.New("timeout")
	case errors.As(err, &op):
		return op.Err
	}
	return err
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
