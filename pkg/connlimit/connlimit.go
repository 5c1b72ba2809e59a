// Package connlimit keeps strangers from occupying a port: so many connections
// in all, so many from one address, and whoever comes is let in. Where there is
// no room, the connection on which nothing was answered for longest has to go,
// one of the same address first. So nobody can starve others by holding
// connections open, and memory is bounded.
//
// It never blocks Accept, and never closes a newcomer for a connection that
// hangs about.
//
//	l = connlimit.New(l, connlimit.Config{Total: 4096, PerAddr: 256})
package connlimit

import (
	"container/list"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Config are the limits; the first two must be positive.
type Config struct {
	Total   int // connections at once
	PerAddr int // of which from one IPv4 address, or one IPv6 /64

	// WriteTimeout is for a peer that does not read: each write has between half
	// of it and all of it. It takes the place of http.Server's, which moves a
	// timer twice for each answer; where answers are small that is a good part
	// of what they cost. 0: deadlines are the server's.
	WriteTimeout time.Duration
}

// Listener is a net.Listener with limits.
type Listener struct {
	net.Listener
	cfg Config

	mu     sync.Mutex                  // guards what follows, and the lists' elements
	all    list.List                   // of *conn, idle for longest in front
	byAddr map[netip.Prefix]*list.List // likewise; no list is empty
}

// New limits l.
func New(l net.Listener, cfg Config) *Listener {
	return &Listener{Listener: l, cfg: cfg, byAddr: make(map[netip.Prefix]*list.List)}
}

// Accept waits for the next connection and makes room for it.
func (l *Listener) Accept() (net.Conn, error) {
	accepted, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: accepted, l: l, addr: network(accepted.RemoteAddr())}
	if victim := l.admit(c); victim != nil {
		victim.Conn.Close()
	}
	return c, nil
}

// admit counts a connection in, and out the one that has to go for it.
func (l *Listener) admit(c *conn) (victim *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if same := l.byAddr[c.addr]; same != nil && same.Len() >= l.cfg.PerAddr {
		victim = same.Front().Value.(*conn)
	} else if l.all.Len() >= l.cfg.Total {
		victim = l.all.Front().Value.(*conn)
	}
	if victim != nil {
		l.remove(victim)
	}
	same := l.byAddr[c.addr]
	if same == nil {
		same = list.New()
		l.byAddr[c.addr] = same
	}
	c.inAll, c.inAddr = l.all.PushBack(c), same.PushBack(c)
	return victim
}

// remove counts a connection out, if it is still counted. mu is held.
func (l *Listener) remove(c *conn) {
	if c.inAll == nil {
		return
	}
	l.all.Remove(c.inAll)
	same := l.byAddr[c.addr]
	same.Remove(c.inAddr)
	if same.Len() == 0 {
		delete(l.byAddr, c.addr)
	}
	c.inAll, c.inAddr = nil, nil
}

// conn is one connection. Only answers make it younger: a peer that sends byte
// after byte of a request that never ends stays where it is.
type conn struct {
	net.Conn
	l             *Listener
	addr          netip.Prefix
	inAll, inAddr *list.Element // nil once it is counted out; guarded by l.mu
	deadline      time.Time     // of writes, with a WriteTimeout; guarded by l.mu
}

func (c *conn) Write(b []byte) (int, error) {
	c.l.mu.Lock()
	if c.inAll != nil {
		c.l.all.MoveToBack(c.inAll)
		c.l.byAddr[c.addr].MoveToBack(c.inAddr)
	}
	err := c.allowTime()
	c.l.mu.Unlock()
	if err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

// allowTime moves the deadline of writes, if less than half of the timeout is
// left. l.mu is held.
func (c *conn) allowTime() error {
	timeout := c.l.cfg.WriteTimeout
	if timeout == 0 {
		return nil
	}
	now := time.Now()
	if c.deadline.Sub(now) >= timeout/2 {
		return nil
	}
	c.deadline = now.Add(timeout)
	return c.Conn.SetWriteDeadline(c.deadline)
}

// SetWriteDeadline is the server's; see Config.WriteTimeout.
func (c *conn) SetWriteDeadline(t time.Time) error {
	if c.l.cfg.WriteTimeout > 0 {
		return nil
	}
	return c.Conn.SetWriteDeadline(t)
}

func (c *conn) Close() error {
	c.l.mu.Lock()
	c.l.remove(c)
	c.l.mu.Unlock()
	return c.Conn.Close()
}

// network is what one party has: an IPv4 address, or an IPv6 /64.
func network(a net.Addr) netip.Prefix {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	addr := tcp.AddrPort().Addr().Unmap().WithZone("")
	bits := 64
	if addr.Is4() {
		bits = 32
	}
	p, err := addr.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}
