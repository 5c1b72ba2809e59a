//go:build unix

package strangertest_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/watch"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/proxy"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
)

// The number of connections of authenticated clients is reported, so that serve can
// set its memory limit. Strangers are not counted (X41). A client that opens many
// connections displaces no other client behind its address (X42).
func TestKnownConnections(t *testing.T) {
	var known atomic.Int64
	p := proxytest.Start(t, proxytest.Options{Change: func(c *proxy.Config) {
		c.Known = func(n int) { known.Store(int64(n)) }
		c.Limits = proxy.Limits{Connections: 512, APIHeader: time.Hour}
	}})
	var open []net.Conn
	ask := func(token string) (net.Conn, *bufio.Reader) {
		t.Helper()
		conn, err := tls.Dial("tcp", p.HTTPSAddr(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		open = append(open, conn)
		in := bufio.NewReader(conn)
		if err := askAgain(t, conn, in, token); err != nil {
			t.Fatal(err)
		}
		return conn, in
	}
	grant := proxytest.Grant(clients.ModeGateway, "*.example.com")
	token := p.Bearer(t, "neighbour", grant)
	conn, in := ask(token)
	idle(t, p.HTTPSAddr(), 60, 1)
	greedy := p.Bearer(t, "greedy", grant)
	const share = 32 // of 512 connections
	for range 2*share + 10 {
		ask(greedy)
	}
	watch.Until(t, "the connections of clients are reported", func() bool { return known.Load() == 1+share })
	if err := askAgain(t, conn, in, token); err != nil {
		t.Errorf("a neighbour of the greedy client: %v", err)
	}
	for _, c := range open {
		c.Close()
	}
	watch.Until(t, fmt.Sprintf("%d connections are closed", len(open)), func() bool { return known.Load() == 0 })
}
