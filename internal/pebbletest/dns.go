package pebbletest

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/miekg/dns"
)

// startTimeout is the timeout for a server to answer. It is long because test
// machines are busy. A server that is ready is noticed at once.
const startTimeout = 30 * time.Second

// pollInterval is the pause between two requests to a server that is starting.
const pollInterval = 5 * time.Millisecond

// startDNS runs a DNS server that answers every name with 127.0.0.1. It uses TCP, as
// Pebble does. Its timeouts are long, because a busy machine may be slow and Pebble
// does not repeat a question.
func startDNS() (srv *dns.Server, addr string, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", fmt.Errorf("start the DNS server: %w", err)
	}
	started := make(chan struct{})
	srv = &dns.Server{
		Listener: l, Handler: dns.HandlerFunc(pointHere), ReadTimeout: time.Minute, WriteTimeout: time.Minute,
		NotifyStartedFunc: func() { close(started) },
	}
	ended := make(chan error, 1)
	go func() { ended <- srv.ActivateAndServe() }()
	select {
	case <-started:
		return srv, l.Addr().String(), nil
	case err := <-ended:
		l.Close()
		return nil, "", fmt.Errorf("start the DNS server: %w", err)
	}
}

// pointHere answers a question for A with 127.0.0.1 and others with no record.
func pointHere(w dns.ResponseWriter, r *dns.Msg) {
	m := new(dns.Msg).SetReply(r)
	for _, q := range r.Question {
		if q.Qtype == dns.TypeA {
			m.Answer = append(m.Answer, &dns.A{
				Hdr: dns.RR_Header{Name: q.Name, Rrtype: dns.TypeA, Class: dns.ClassINET}, A: net.IPv4(127, 0, 0, 1),
			})
		}
	}
	_ = w.WriteMsg(m) // Pebble has hung up otherwise
}

// waitForDNS waits until the DNS server at addr answers on UDP and TCP.
func waitForDNS(ctx context.Context, dial func(ctx context.Context, network, addr string) (net.Conn, error), addr string) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for _, network := range []string{"udp", "tcp"} {
		resolver := &net.Resolver{
			PreferGo: true,
			Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return dial(ctx, network, addr)
			},
		}
		err := poll(ctx, func() error {
			_, err := resolver.LookupNetIP(ctx, "ip4", "ready.example.com.")
			return err
		})
		if err != nil {
			return fmt.Errorf("wait for the DNS server at %s (%s): %w", addr, network, err)
		}
	}
	return nil
}

// poll calls f until it succeeds or ctx ends. If ctx ends, it returns f's last error.
func poll(ctx context.Context, f func() error) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}
