package connlimit

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a listener of connections that come from where the test says.
type pipes struct{ next chan net.Conn }

func (p *pipes) Accept() (net.Conn, error) { return <-p.next, nil }
func (*pipes) Close() error                { return nil }
func (*pipes) Addr() net.Addr              { return &net.TCPAddr{} }

type from struct {
	net.Conn
	addr   net.Addr
	closed *atomic.Bool
}

func (f from) Close() error {
	f.closed.Store(true)
	return f.Conn.Close()
}

func (f from) RemoteAddr() net.Addr { return f.addr }

// both are the ends of one connection.
type both struct {
	server, client net.Conn
	closed         *atomic.Bool // our end
}

func dial(t *testing.T, l *Listener, addr string) both {
	t.Helper()
	a, b := net.Pipe()
	closed := &atomic.Bool{}
	l.Listener.(*pipes).next <- from{a, net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(addr), 1)), closed}
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); b.Close() })
	return both{c, b, closed}
}

func (b both) gone() bool { return b.closed.Load() }

func (b both) answer(t *testing.T) {
	t.Helper()
	read := make(chan error, 1)
	go func() {
		_, err := b.client.Read(make([]byte, 1))
		read <- err
	}()
	if _, err := b.server.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := <-read; err != nil {
		t.Fatal(err)
	}
}

func newListener(total, perAddr int) *Listener {
	return New(&pipes{make(chan net.Conn, 1)}, Config{Total: total, PerAddr: perAddr})
}

func (l *Listener) counts(t *testing.T, all, addrs int) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, same := range l.byAddr {
		n += same.Len()
	}
	if l.all.Len() != all || n != all || len(l.byAddr) != addrs {
		t.Errorf("%d connections, %d by address, %d addresses; want %d, %d", l.all.Len(), n, len(l.byAddr), all, addrs)
	}
}

// An address that has all that it may have loses its own oldest.
func TestPerAddress(t *testing.T) {
	t.Parallel()
	l := newListener(100, 2)
	other := dial(t, l, "192.0.2.2")
	first, second := dial(t, l, "192.0.2.1"), dial(t, l, "::ffff:192.0.2.1")
	first.answer(t) // now the second is idle for longer
	third := dial(t, l, "192.0.2.1")
	if !second.gone() || other.gone() || first.gone() || third.gone() {
		t.Error("the wrong one had to go")
	}
	l.counts(t, 3, 2)
}

// A full house loses whoever is idle for longest, and reading is idleness.
func TestTotal(t *testing.T) {
	t.Parallel()
	l := newListener(3, 3)
	slow, busy, quiet := dial(t, l, "192.0.2.1"), dial(t, l, "192.0.2.2"), dial(t, l, "2001:db8::1")
	busy.answer(t)
	sent := make(chan error, 1)
	go func() { _, err := slow.client.Write([]byte("y")); sent <- err }()
	if _, err := slow.server.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	fourth := dial(t, l, "192.0.2.4")
	if !slow.gone() || busy.gone() || quiet.gone() || fourth.gone() {
		t.Error("the wrong one had to go")
	}
	fifth := dial(t, l, "192.0.2.5")
	if !quiet.gone() || busy.gone() || fourth.gone() || fifth.gone() {
		t.Error("the wrong one had to go")
	}
	l.counts(t, 3, 3)
}

// An IPv6 party has a /64, and another one another.
func TestIPv6(t *testing.T) {
	t.Parallel()
	l := newListener(100, 1)
	first := dial(t, l, "2001:db8:0:1::1")
	neighbour := dial(t, l, "2001:db8:0:2::1")
	dial(t, l, "2001:db8:0:1:ffff::2%eth0")
	if !first.gone() || neighbour.gone() {
		t.Error("the limit is not by /64")
	}
	l.counts(t, 2, 2)
}

// What is closed is not counted, however often and by whom it was closed.
func TestClose(t *testing.T) {
	t.Parallel()
	l := newListener(2, 1)
	first := dial(t, l, "192.0.2.1")
	dial(t, l, "192.0.2.1")
	for range 2 {
		first.server.Close()
	}
	l.counts(t, 1, 1)
	if _, err := first.server.Write([]byte("x")); err == nil {
		t.Error("a closed connection was written to")
	}
	third := dial(t, l, "192.0.2.3")
	third.server.Close()
	l.counts(t, 1, 1)
	dial(t, l, "192.0.2.1").server.Close()
	l.counts(t, 0, 0)
}

// Who does not read what is written is let go, whatever the server does with
// deadlines; and however long a connection lasts, each write has its time.
func TestWriteTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const timeout = 30 * time.Second
		l := New(&pipes{make(chan net.Conn, 1)}, Config{Total: 1, PerAddr: 1, WriteTimeout: timeout})
		c := dial(t, l, "192.0.2.1")
		for range 10 {
			c.answer(t)
			if err := c.server.SetWriteDeadline(time.Now()); err != nil { // the server's have no say
				t.Fatal(err)
			}
			time.Sleep(timeout / 3) // by the test's clock
		}
		begun := time.Now()
		_, err := c.server.Write([]byte("nobody reads this"))
		took := time.Since(begun)
		if !errors.Is(err, os.ErrDeadlineExceeded) || took < timeout/2 || took > timeout {
			t.Errorf("%v after %v", err, took)
		}
	})
}
