package connlimit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a listener for connections from addresses that the test sets.
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

// both holds both ends of one connection.
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

// newListener returns a listener with these limits in each stage.
func newListener(total, perAddr int) *Listener {
	share := Share{total, perAddr}
	return New(&pipes{make(chan net.Conn, 1)}, Config{New: share, Completed: share, Known: share, TLS: true})
}

func (b both) conn() *Conn { return b.server.(*Conn) }

// counts checks the counts of a stage.
func (l *Listener) counts(t *testing.T, stage, all, addrs int) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	s := &l.stages[stage]
	n, most := 0, 0
	for _, h := range s.byParty {
		n += h.conns.Len()
		most = max(most, h.conns.Len())
	}
	listed := 0
	for i := range s.bySize {
		listed += s.bySize[i].Len()
	}
	if s.count != all || n != all || len(s.byParty) != addrs || listed != addrs || s.most != most {
		t.Errorf("%d connections, %d by address, %d addresses, %d by size, %d at most; want %d, %d", s.count, n, len(s.byParty), listed, s.most, all, addrs)
	}
}

// An address at its limit loses its own oldest connection.
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
	l.counts(t, stageNew, 3, 2)
}

// A full stage loses the connection that is idle for longest, of the address that
// holds most. Reading counts as idle (X41).
func TestTotal(t *testing.T) {
	t.Parallel()
	l := newListener(4, 3)
	first := dial(t, l, "192.0.2.1")
	slow, busy := dial(t, l, "192.0.2.2"), dial(t, l, "192.0.2.2")
	quiet := dial(t, l, "2001:db8::1")
	busy.answer(t)
	sent := make(chan error, 1)
	go func() { _, err := slow.client.Write([]byte("y")); sent <- err }()
	if _, err := slow.server.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	dial(t, l, "192.0.2.4")
	if !slow.gone() || busy.gone() || quiet.gone() || first.gone() {
		t.Error("the wrong one had to go")
	}
	dial(t, l, "192.0.2.5") // all hold one now
	if !first.gone() || busy.gone() || quiet.gone() {
		t.Error("the wrong one had to go")
	}
	l.counts(t, stageNew, 4, 4)
}

// New connections displace neither completed nor authenticated ones, and completed
// ones displace no authenticated ones (X41).
func TestStages(t *testing.T) {
	t.Parallel()
	l := newListener(4, 2)
	known, completed := dial(t, l, "192.0.2.1"), dial(t, l, "192.0.2.1")
	known.conn().Complete()
	known.conn().Know("web1")
	known.conn().Know("web1") // each request calls it
	completed.conn().Complete()
	for i := range 9 {
		for range 500 {
			dial(t, l, netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}).String())
		}
	}
	if known.gone() || completed.gone() {
		t.Error("bare connections displace others")
	}
	for i := range 9 {
		dial(t, l, netip.AddrFrom4([4]byte{203, 0, 113, byte(i)}).String()).conn().Complete()
	}
	if known.gone() {
		t.Error("strangers displace an authenticated client")
	}
	l.counts(t, stageNew, 3, 3) // the last one has been completed
	l.counts(t, stageCompleted, 4, 4)
	l.counts(t, stageKnown, 1, 1)
}

// A client that opens too many connections displaces its own, from any address. It
// does not limit other clients behind the same address (X42).
func TestKnownByClient(t *testing.T) {
	t.Parallel()
	l := newListener(10, 2)
	know := func(addr, client string) both {
		c := dial(t, l, addr)
		c.conn().Complete()
		c.conn().Know(client)
		return c
	}
	var neighbours []both
	for i := range 7 {
		neighbours = append(neighbours, know("192.0.2.1", fmt.Sprint("neighbour", i)))
	}
	var greedy []both
	for i := range 100 {
		greedy = append(greedy, know([]string{"192.0.2.1", "192.0.2.7", "2001:db8::1"}[i%3], "greedy"))
	}
	for i, c := range greedy {
		if c.gone() != (i < 98) {
			t.Errorf("connection %d of the greedy client: gone is %v", i, c.gone())
		}
	}
	neighbours = append(neighbours, know("192.0.2.1", "late"), know("192.0.2.1", "later"))
	for i, c := range neighbours {
		if c.gone() {
			t.Errorf("neighbour %d was displaced", i)
		}
	}
	if !greedy[98].gone() || l.Known() != 10 {
		t.Errorf("%d connections; the client that holds most must give way", l.Known())
	}
	l.counts(t, stageKnown, 10, 10)
	for _, c := range neighbours {
		c.server.Close()
	}
	l.counts(t, stageKnown, 1, 1)
}

// The requests in progress on a stranger's connection are limited (X41).
func TestBegin(t *testing.T) {
	t.Parallel()
	l := newListener(10, 10)
	c := dial(t, l, "192.0.2.1").conn()
	end, ok := c.Begin(2)
	if _, again := c.Begin(2); !ok || !again {
		t.Error("two of two were refused")
	}
	for range 3 {
		if _, ok := c.Begin(2); ok {
			t.Error("a third was taken")
		}
	}
	end()
	if _, ok := c.Begin(1); ok {
		t.Error("one of a kind that is alone was taken beside another")
	}
	end, ok = c.Begin(2)
	if !ok {
		t.Error("nothing is free after an end")
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, ok := c.Await(gone, 2); ok {
		t.Error("a third was taken after its caller left")
	}
	waited := make(chan bool, 2)
	for range cap(waited) {
		go func() {
			end, ok := c.Await(t.Context(), 2)
			if ok {
				end()
			}
			waited <- ok
		}()
	}
	end()
	if first, second := <-waited, <-waited; !first || !second {
		t.Errorf("those that wait for an end: %t, %t", first, second)
	}
	if _, ok := c.Await(t.Context(), 2); !ok {
		t.Error("nothing is free")
	}
	go func() {
		_, ok := c.Await(t.Context(), 2)
		waited <- ok
	}()
	c.Know("web1")
	if !<-waited {
		t.Error("one that waits when the client becomes known was refused")
	}
	if _, ok := c.Begin(1); !ok {
		t.Error("a known client was refused")
	}
	if end, ok := (*Conn)(nil).Begin(1); !ok {
		t.Error("a server without limits refuses")
	} else {
		end()
	}
}

// On a port without TLS the first answer completes a connection (X41).
func TestCompletedByAnswer(t *testing.T) {
	t.Parallel()
	l := New(&pipes{make(chan net.Conn, 1)}, Config{New: Share{2, 2}, Completed: Share{2, 2}})
	visitor := dial(t, l, "192.0.2.1")
	visitor.answer(t)
	for i := range 10 {
		dial(t, l, netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}).String())
	}
	if visitor.gone() {
		t.Error("silent connections displace one that had an answer")
	}
	l.counts(t, stageNew, 2, 2)
	l.counts(t, stageCompleted, 1, 1)
}

// send sends n bytes. It returns the number that the server has read, and its error.
func (b both) send(n int) (read int, err error) {
	go func() {
		b.client.Write(make([]byte, n))
		b.client.Close()
	}()
	buf := make([]byte, 100)
	for {
		m, err := b.server.Read(buf)
		if read += m; err != nil {
			return read, err
		}
	}
}

// The bytes that a connection sends before its handshake ends, or without an answer,
// are limited until its client is known (X41).
func TestTooMuch(t *testing.T) {
	t.Parallel()
	l := newListener(10, 10)
	l.cfg.MaxNew, l.cfg.MaxUnanswered = 1000, 2000
	if n, err := dial(t, l, "192.0.2.1").send(5000); n != 1000 || !errors.Is(err, ErrTooMuch) {
		t.Errorf("new: %d bytes, %v", n, err)
	}
	completed := dial(t, l, "192.0.2.1")
	completed.conn().Complete()
	if n, err := completed.send(5000); n != 2000 || !errors.Is(err, ErrTooMuch) || !completed.gone() {
		t.Errorf("completed: %d bytes, %v", n, err)
	}
	answered := dial(t, l, "192.0.2.1")
	answered.conn().Complete()
	for range 3 {
		go answered.client.Write(make([]byte, 1500))
		if _, err := io.ReadFull(answered.server, make([]byte, 1500)); err != nil {
			t.Fatal(err)
		}
		answered.answer(t)
	}
	known := dial(t, l, "192.0.2.1")
	known.conn().Complete()
	known.conn().Know("web1")
	if n, err := known.send(5000); n != 5000 || !errors.Is(err, io.EOF) {
		t.Errorf("known: %d bytes, %v", n, err)
	}
}

// Connections of strangers compute in turns. A turn ends if its connection takes
// long or is closed (X41).
func TestTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newListener(10, 10)
		l.cfg.MaxNew, l.turns.free = 1000, 1
		read := func(c both) {
			go c.client.Write([]byte("x"))
			if _, err := c.server.Read(make([]byte, 1)); err != nil {
				t.Error(err)
			}
		}
		first, second, third := dial(t, l, "192.0.2.1"), dial(t, l, "192.0.2.1"), dial(t, l, "192.0.2.1")
		begun := time.Now()
		read(first) // has the turn, and computes
		read(second)
		if took := time.Since(begun); took != maxTurn+maxRest {
			t.Errorf("the second had its turn after %v", took)
		}
		second.answer(t) // ends it
		read(third)
		third.server.Close()
		read(first)
		if took := time.Since(begun); took != maxTurn+maxRest {
			t.Errorf("all had their turns after %v", took)
		}
		time.Sleep(maxTurn) // by the test's clock
		synctest.Wait()
		if l.turns.free != 1 {
			t.Error("a turn has no end")
		}
	})
}

// An address with many connections delays another address by one turn. A connection
// that is displaced while it waits gets no turn (X41).
func TestFairTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newListener(100, 100)
		l.cfg.MaxNew, l.turns.free = 1000, 1
		var order []string
		var mu sync.Mutex // guards order
		var reading sync.WaitGroup
		read := func(addr string) both {
			c := dial(t, l, addr)
			reading.Go(func() {
				go c.client.Write([]byte("x"))
				_, err := c.server.Read(make([]byte, 1))
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					addr = err.Error()
				}
				order = append(order, addr)
			})
			synctest.Wait()
			return c
		}
		for range 3 {
			read("192.0.2.1")
		}
		read("192.0.2.1").server.Close()
		read("192.0.2.1").server.Close()
		read("192.0.2.2")
		read("192.0.2.3")
		reading.Wait()
		time.Sleep(maxTurn + maxRest) // by the test's clock
		want := "[192.0.2.1 192.0.2.1 192.0.2.2 192.0.2.3 192.0.2.1"
		if got := fmt.Sprint(order); !strings.HasPrefix(got, want) || strings.Count(got, "closed") != 2 {
			t.Errorf("%s, want %s", got, want)
		}
		if l.turns.free != 1 || len(l.turns.waiting) != 0 {
			t.Error("a turn has no end")
		}
	})
}

// A connection on which too many requests are denied is closed, unless its
// client is known (X41).
func TestDeny(t *testing.T) {
	t.Parallel()
	l := newListener(10, 10)
	stranger, known := dial(t, l, "192.0.2.1"), dial(t, l, "192.0.2.1")
	known.conn().Know("web1")
	for range maxDenied {
		stranger.conn().Deny()
	}
	if stranger.gone() {
		t.Error("closed too early")
	}
	for range 100 {
		stranger.conn().Deny()
		known.conn().Deny()
	}
	if !stranger.gone() || known.gone() {
		t.Error("the wrong one had to go")
	}
	(*Conn)(nil).Deny() // as on a server without limits
	(*Conn)(nil).Know("web1")
}

// A connection whose client is locked out, or does not prove who it is any more, counts as
// one of its address again (X41).
func TestForget(t *testing.T) {
	t.Parallel()
	l := newListener(10, 2)
	know := func() both {
		c := dial(t, l, "192.0.2.1")
		c.conn().Complete()
		c.conn().Know("web1")
		return c
	}
	a, b := know(), know()
	l.counts(t, stageKnown, 2, 1)
	a.conn().Forget()
	a.conn().Forget() // by another request
	for range maxDoubts - 1 {
		b.conn().Doubt()
	}
	b.conn().Know("web1")
	for range maxDoubts - 1 {
		b.conn().Doubt()
	}
	if a.conn().Known() || !b.conn().Known() {
		t.Error("the wrong one is forgotten")
	}
	l.counts(t, stageKnown, 1, 1)
	l.counts(t, stageCompleted, 1, 1)
	b.conn().Doubt()
	third := dial(t, l, "192.0.2.1")
	third.conn().Complete()
	if b.conn().Known() || !a.gone() {
		t.Error("a third stranger of an address displaces none of two that were known")
	}
	b.conn().Know("web1")
	l.counts(t, stageKnown, 1, 1)
	b.server.Close()
	b.conn().Forget()
	l.counts(t, stageKnown, 0, 0)
	(*Conn)(nil).Forget() // as on a server without limits
	(*Conn)(nil).Doubt()
}

// Each IPv6 /64 is one party.
func TestIPv6(t *testing.T) {
	t.Parallel()
	l := newListener(100, 1)
	first := dial(t, l, "2001:db8:0:1::1")
	neighbour := dial(t, l, "2001:db8:0:2::1")
	dial(t, l, "2001:db8:0:1:ffff::2%eth0")
	if !first.gone() || neighbour.gone() {
		t.Error("the limit is not by /64")
	}
	l.counts(t, stageNew, 2, 2)
}

// A closed connection is not counted, even if it is closed more than once.
func TestClose(t *testing.T) {
	t.Parallel()
	l := newListener(2, 1)
	first := dial(t, l, "192.0.2.1")
	dial(t, l, "192.0.2.1")
	for range 2 {
		first.server.Close()
	}
	l.counts(t, stageNew, 1, 1)
	if _, err := first.server.Write([]byte("x")); err == nil {
		t.Error("a closed connection was written to")
	}
	first.conn().Complete()
	first.conn().Know("web1")
	l.counts(t, stageKnown, 0, 0)
	third := dial(t, l, "192.0.2.3")
	third.server.Close()
	l.counts(t, stageNew, 1, 1)
	dial(t, l, "192.0.2.1").server.Close()
	l.counts(t, stageNew, 0, 0)
}

// Places are shared fairly by addresses, and some are always left (X41).
func TestPlaces(t *testing.T) {
	t.Parallel()
	p := NewPlaces(100)
	take := func(addr string) (n int, release []func()) {
		for {
			r, ok := p.Take(netip.MustParseAddr(addr))
			if !ok {
				return n, release
			}
			n, release = n+1, append(release, r)
		}
	}
	first, release := take("192.0.2.1")
	if again, _ := take("::ffff:192.0.2.1"); first != 50 || again != 0 {
		t.Errorf("the first address has %d and %d", first, again)
	}
	var all int
	for i := range 10 {
		n, _ := take(netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0, byte(i), 0, 0, 1}).String())
		if all += n; n == 0 && i < 5 {
			t.Errorf("nothing is left for address %d", i)
		}
	}
	for _, r := range release {
		r()
	}
	if n, _ := take("192.0.2.9"); n == 0 || p.used != all+n {
		t.Errorf("%d places after the first address has left; %d used of %d", n, p.used, all+n)
	}
}

// All networks of an IPv6 /48 together have the limit of one address (X41).
func TestPlacesOfSites(t *testing.T) {
	t.Parallel()
	p := NewPlaces(100)
	var held []func()
	for i := range 1000 {
		if release, ok := p.Take(netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0, 0, byte(i >> 8), byte(i), 1})); ok {
			held = append(held, release)
		}
	}
	if len(held) != 50 {
		t.Errorf("1000 networks of one site have %d places", len(held))
	}
	for _, other := range []string{"2001:db8:1::1", "192.0.2.1"} {
		if release, ok := p.Take(netip.MustParseAddr(other)); !ok {
			t.Errorf("nothing is left for %s", other)
		} else {
			release()
		}
	}
	for _, release := range held {
		release()
	}
	if p.used != 0 || len(p.byAddr) != 0 {
		t.Errorf("%d places, %d networks are left", p.used, len(p.byAddr))
	}
}

// A peer that does not read is disconnected, even if the server sets deadlines. Each
// write has its full time on a long connection.
func TestWriteTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const timeout = 30 * time.Second
		l := New(&pipes{make(chan net.Conn, 1)}, Config{New: Share{1, 1}, Completed: Share{1, 1}, WriteTimeout: timeout})
		c := dial(t, l, "192.0.2.1")
		for range 10 {
			c.answer(t)
			if err := c.server.SetWriteDeadline(time.Now()); err != nil { // the server's are ignored
				t.Fatal(err)
			}
			time.Sleep(timeout / 3) // by the test's clock
		}
		begun := time.Now()
		_, err := c.server.Write([]byte("not read"))
		took := time.Since(begun)
		if !errors.Is(err, os.ErrDeadlineExceeded) || took < timeout/2 || took > timeout {
			t.Errorf("%v after %v", err, took)
		}
	})
}
