package pebbletest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"time"

	"github.com/letsencrypt/challtestsrv"
)

// startTimeout is how long a server may take until it answers. It is generous
// because test machines are busy; a server that is up is noticed at once.
const startTimeout = 30 * time.Second

// pollInterval is the pause between two questions to a server that is starting.
const pollInterval = 5 * time.Millisecond

// startDNSAnywhere starts the DNS server on a port of its choice. The server does
// not say when its port was taken meanwhile, by a test that looked for one in
// the same moment: then it never answers, and the next port is tried.
func startDNSAnywhere(ctx context.Context) (*challtestsrv.ChallSrv, int, error) {
	var failures []error
	for patience := 2 * time.Second; patience <= startTimeout; patience *= 2 {
		port, err := FreePort()
		if err != nil {
			return nil, 0, err
		}
		attempt, cancel := context.WithTimeout(ctx, patience)
		srv, err := startDNS(attempt, port)
		cancel()
		if err == nil {
			return srv, port, nil
		}
		failures = append(failures, err)
	}
	return nil, 0, errors.Join(failures...)
}

// startDNS runs a DNS server on port that answers every name with 127.0.0.1.
// When it returns, the server answers on UDP and TCP.
func startDNS(ctx context.Context, port int) (*challtestsrv.ChallSrv, error) {
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	srv, err := challtestsrv.New(challtestsrv.Config{
		DNSAddrs: []string{addr},
		Log:      log.New(io.Discard, "", 0),
	})
	if err != nil {
		return nil, fmt.Errorf("create the DNS server: %w", err)
	}
	srv.SetDefaultDNSIPv4("127.0.0.1")
	srv.SetDefaultDNSIPv6("")
	srv.Run()
	if err := waitForDNS(ctx, (&net.Dialer{}).DialContext, addr); err != nil {
		srv.Shutdown()
		return nil, err
	}
	return srv, nil
}

// waitForDNS returns when the DNS server at addr answers on UDP and TCP.
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

// poll calls f until it succeeds or ctx ends; then it returns f's last error.
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
