// Package connlimit keeps strangers from occupying a port. A connection is in
// one of three stages: new, completed (its TLS handshake or its first request),
// and known (its client has authenticated). Each stage has room for so many
// connections, and for so many of one party: an address, or the client once it
// is known, since many clients can share an address. A connection that enters a
// full stage takes the place of another one in it, of the party that holds most.
// So strangers never displace an authenticated client, and memory is bounded.
//
// It never blocks Accept, and never closes a newcomer in favour of an idle
// connection.
//
//	l = connlimit.New(l, connlimit.Config{New: connlimit.Share{Total: 2048, PerParty: 256}, …})
package connlimit

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Share is how many connections a stage has room for. Both must be positive in
// a stage that is used.
type Share struct {
	Total    int
	PerParty int // of which from one IPv4 address or one IPv6 /64, or of one known client
}

// Config holds the limits.
type Config struct {
	New       Share // nothing is completed yet
	Completed Share
	Known     Share // used only if Conn.Know is called

	// TLS makes Conn.Complete end the stage of new connections. Without it the
	// first answer does.
	TLS bool
	// MaxNew limits the bytes that a new connection may send, and MaxUnanswered
	// those that a completed one may send without an answer. A connection that
	// sends more is closed. A known one may send anything. 0: no limit.
	MaxNew, MaxUnanswered int64
	// WriteTimeout is for a peer that does not read: each write has between half
	// of it and all of it. It takes the place of http.Server's, which moves a
	// timer twice for each answer; where answers are small that is a good part
	// of what they cost. 0: deadlines are the server's.
	WriteTimeout time.Duration
}

// ErrTooMuch ends a connection that sent more than a stranger may.
var ErrTooMuch = errors.New("more was sent than a client may send that is not known")

// Listener is a net.Listener with limits.
type Listener struct {
	net.Listener
	cfg Config

	turns  *turns
	mu     sync.Mutex // guards the stages
	stages [stageKnown + 1]stage
}

// New limits l.
func New(l net.Listener, cfg Config) *Listener {
	limited := &Listener{Listener: l, cfg: cfg, turns: newTurns()}
	for i, share := range []Share{cfg.New, cfg.Completed, cfg.Known} {
		limited.stages[i] = newStage(share)
	}
	return limited
}

// Known returns the number of connections of authenticated clients.
func (l *Listener) Known() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stages[stageKnown].count
}

// Accept waits for the next connection and makes room for it.
func (l *Listener) Accept() (net.Conn, error) {
	accepted, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &Conn{Conn: accepted, l: l, addr: network(accepted.RemoteAddr())}
	c.party.network = c.addr
	l.mu.Lock()
	victim := l.stages[stageNew].add(c)
	l.mu.Unlock()
	victim.evict()
	return c, nil
}

// Conn is one connection. A nil Conn is one without limits.
type Conn struct {
	net.Conn
	l    *Listener
	addr netip.Prefix

	at         atomic.Int32 // index of the stage; written with l.mu held
	unanswered atomic.Int64 // bytes that count against MaxNew or MaxUnanswered
	inProgress atomic.Int32 // see Begin
	denied     atomic.Int32 // see Deny
	turn       turn

	party    party     // guarded by l.mu
	place              // guarded by l.mu
	deadline time.Time // of writes, with a WriteTimeout; guarded by l.mu
}

// Of returns the Conn below c, which may be a *tls.Conn; nil if there is none.
func Of(c net.Conn) *Conn {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	limited, _ := c.(*Conn)
	return limited
}

type contextKey struct{}

// NewContext returns a context that carries the Conn below c. It fits
// http.Server.ConnContext.
func NewContext(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, contextKey{}, Of(c))
}

// FromContext returns the Conn of a request's context; nil if there is none.
func FromContext(ctx context.Context) *Conn {
	c, _ := ctx.Value(contextKey{}).(*Conn)
	return c
}

// Complete records that the TLS handshake succeeded.
func (c *Conn) Complete() { c.enter(stageCompleted, "") }

// Know records that the client has authenticated. It cannot be undone.
func (c *Conn) Know(clientID string) {
	if c != nil {
		c.enter(stageKnown, clientID)
		c.turn.end()
	}
}

// Known reports whether the client has authenticated on this connection.
func (c *Conn) Known() bool { return c != nil && c.at.Load() == stageKnown }

// Begin counts a request of a stranger as in progress until end is called. It
// reports false if the connection has that many already, unless its client is
// known. So strangers who send a body or read an answer slowly occupy their
// connections only.
func (c *Conn) Begin(most int32) (end func(), ok bool) {
	if c == nil {
		return func() {}, true
	}
	if c.inProgress.Add(1) > most && !c.Known() {
		c.inProgress.Add(-1)
		return nil, false
	}
	return func() { c.inProgress.Add(-1) }, true
}

// maxDenied is the number of requests on a connection that are denied in words.
const maxDenied = 8

// Deny records that a request of a stranger was denied because there are too
// many. After some of them the connection is closed: one that sends request
// after request would cost more than a new handshake does.
func (c *Conn) Deny() {
	if c != nil && !c.Known() && c.denied.Add(1) > maxDenied {
		c.Close()
	}
}

// enter moves the connection to a later stage.
func (c *Conn) enter(stage int32, clientID string) {
	if c == nil || c.at.Load() >= stage {
		return
	}
	c.l.mu.Lock()
	victim := c.move(stage, clientID)
	c.l.mu.Unlock()
	victim.evict()
}

// move is enter with l.mu held.
func (c *Conn) move(stage int32, clientID string) (victim *Conn) {
	from := c.at.Load()
	if c.holder == nil || from >= stage { // it was closed, or another request was faster
		return nil
	}
	c.l.stages[from].remove(c)
	c.at.Store(stage)
	c.unanswered.Store(0)
	if clientID != "" {
		c.party = party{clientID: clientID}
	}
	return c.l.stages[stage].add(c)
}

// evict closes a connection whose place was taken.
func (c *Conn) evict() {
	if c != nil {
		c.Conn.Close()
	}
}

func (c *Conn) Read(b []byte) (int, error) {
	var most int64
	switch c.at.Load() {
	case stageNew:
		most = c.l.cfg.MaxNew
	case stageCompleted:
		most = c.l.cfg.MaxUnanswered
	}
	if most == 0 {
		return c.Conn.Read(b)
	}
	c.turn.end()
	left := most - c.unanswered.Load()
	if left <= 0 {
		c.Close()
		return 0, ErrTooMuch
	}
	n, err := c.Conn.Read(b[:min(int64(len(b)), left)])
	c.unanswered.Add(int64(n))
	if n == 0 {
		return n, err
	}
	c.turn.begin(c.l.turns, c.addr)
	if c.isGone() { // a handshake would be wasted
		c.turn.end()
		return 0, net.ErrClosed
	}
	return n, err
}

// isGone reports whether the connection was closed, or its place taken.
func (c *Conn) isGone() bool {
	c.l.mu.Lock()
	defer c.l.mu.Unlock()
	return c.holder == nil
}

// Write makes the connection the youngest of its address: only answers do, so a
// peer that sends byte after byte of a request that never ends does not gain.
func (c *Conn) Write(b []byte) (int, error) {
	c.turn.end()
	c.l.mu.Lock()
	var victim *Conn
	if c.holder != nil {
		if !c.l.cfg.TLS && c.at.Load() == stageNew {
			victim = c.move(stageCompleted, "")
		} else {
			c.l.stages[c.at.Load()].touch(c)
		}
	}
	err := c.allowTime()
	c.l.mu.Unlock()
	victim.evict()
	if err != nil {
		return 0, err
	}
	n, err := c.Conn.Write(b)
	if c.at.Load() == stageCompleted {
		c.unanswered.Store(0)
	}
	return n, err
}

// allowTime moves the deadline of writes, if less than half of the timeout is
// left. l.mu is held.
func (c *Conn) allowTime() error {
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
func (c *Conn) SetWriteDeadline(t time.Time) error {
	if c.l.cfg.WriteTimeout > 0 {
		return nil
	}
	return c.Conn.SetWriteDeadline(t)
}

// Close closes the connection and frees its place. It may be called twice.
func (c *Conn) Close() error {
	c.turn.end()
	c.l.mu.Lock()
	if c.holder != nil {
		c.l.stages[c.at.Load()].remove(c)
	}
	c.l.mu.Unlock()
	return c.Conn.Close()
}

// network returns what one party has of an address: an IPv4 address or an IPv6
// /64.
func network(a net.Addr) netip.Prefix {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	return Network(tcp.AddrPort().Addr())
}

// Network returns what one party has: an IPv4 address or an IPv6 /64.
func Network(addr netip.Addr) netip.Prefix {
	addr = addr.Unmap().WithZone("")
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
