// Package connlimit prevents strangers from occupying a port. A connection is in
// one of three stages: new, completed (its TLS handshake or its first request),
// and known (its client has authenticated). Each stage limits the total number of
// connections, and the number of each party. A party is an address, or the client
// once it is known, because many clients can share an address. A connection that
// enters a full stage displaces another one in it, of the party that holds most.
// So strangers never displace an authenticated client, and memory is bounded.
//
// The package never blocks Accept, and never closes a new connection in favour of
// an idle one.
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

// Share limits the connections of a stage. Both limits must be positive if the stage
// is used.
type Share struct {
	Total    int
	PerParty int // limit for one IPv4 address, one IPv6 /64 or one known client
}

// Config holds the limits.
type Config struct {
	New       Share
	Completed Share
	Known     Share // used only if Conn.Know is called

	// If TLS is set, Conn.Complete ends the stage of new connections. Otherwise the
	// first answer does.
	TLS bool
	// MaxNew limits the bytes that a new connection may send, and MaxUnanswered
	// those that a completed one may send without an answer. A connection that
	// sends more is closed. A known one has no limit. 0 means no limit.
	MaxNew, MaxUnanswered int64
	// WriteTimeout is the timeout for a peer that does not read. Each write has
	// between half of it and all of it. It replaces the timeout of http.Server,
	// which moves a timer twice for each answer, a large part of the cost of small
	// answers. If 0, the server's deadlines apply.
	WriteTimeout time.Duration
}

// ErrTooMuch reports that a client sent more than the limit before it was known.
var ErrTooMuch = errors.New("an unauthenticated client sent more than its limit")

// Listener is a net.Listener that limits its connections.
type Listener struct {
	net.Listener
	cfg Config

	turns  *turns
	mu     sync.Mutex // guards the stages
	stages [stageKnown + 1]stage
}

// New returns a Listener that accepts from l.
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

// Accept waits for the next connection. It may close another one to make room.
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

// Conn is one connection. A nil Conn is a connection without limits.
type Conn struct {
	net.Conn
	l    *Listener
	addr netip.Prefix

	at         atomic.Int32                  // index of the stage; written with l.mu held
	unanswered atomic.Int64                  // bytes that count against MaxNew or MaxUnanswered
	inProgress atomic.Int32                  // see Begin
	denied     atomic.Int32                  // see Deny
	changed    atomic.Pointer[chan struct{}] // closed when Await may succeed; nil if no request waits
	doubts     atomic.Int32                  // see Doubt
	turn       turn

	party    party     // guarded by l.mu
	place              // guarded by l.mu
	deadline time.Time // for writes, with a WriteTimeout; guarded by l.mu
}

// Of returns the Conn below c, which may be a *tls.Conn, or nil.
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

// FromContext returns the Conn of a request's context, or nil.
func FromContext(ctx context.Context) *Conn {
	c, _ := ctx.Value(contextKey{}).(*Conn)
	return c
}

// Complete records that the TLS handshake succeeded.
func (c *Conn) Complete() { c.enter(stageCompleted, "") }

// Know records that the client has authenticated.
func (c *Conn) Know(clientID string) {
	if c != nil {
		c.doubts.Store(0)
		c.enter(stageKnown, clientID)
		c.turn.end()
		c.wake()
	}
}

// Forget makes the connection one of a stranger again: its client may not be served any
// more.
func (c *Conn) Forget() {
	if c == nil || !c.Known() {
		return
	}
	c.l.mu.Lock()
	var victim *Conn
	if c.holder != nil && c.Known() { // neither closed nor forgotten by another request
		victim = c.change(stageCompleted, party{network: c.addr})
	}
	c.l.mu.Unlock()
	victim.evict()
}

// maxDoubts is the number of requests without proof after which a client is forgotten.
const maxDoubts = 32

// Doubt records that a request on the connection of a known client did not prove who it
// is. After maxDoubts of them in a row, it calls Forget, because the client may have been
// locked out. Know ends the row.
func (c *Conn) Doubt() {
	if c != nil && c.Known() && c.doubts.Add(1) >= maxDoubts {
		c.Forget()
	}
}

// Known reports whether the client has authenticated on this connection.
func (c *Conn) Known() bool { return c != nil && c.at.Load() == stageKnown }

// Begin counts a request of a stranger as in progress until end is called. It
// reports false if the connection has most of them already, unless its client is
// known. So strangers that send or read slowly occupy only their own connections.
func (c *Conn) Begin(most int32) (end func(), ok bool) {
	if c == nil {
		return func() {}, true
	}
	if c.inProgress.Add(1) > most && !c.Known() {
		c.inProgress.Add(-1)
		return nil, false
	}
	return func() { c.inProgress.Add(-1); c.wake() }, true
}

// Await is Begin, and waits until ctx ends for another request to end, or for the client
// to be known. The caller must limit how many requests wait.
func (c *Conn) Await(ctx context.Context, most int32) (end func(), ok bool) {
	for {
		changed := c.nextChange()
		if end, ok := c.Begin(most); ok {
			return end, true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, false
		}
	}
}

// nextChange returns a channel that wake closes.
func (c *Conn) nextChange() <-chan struct{} {
	if c == nil {
		return nil // Begin succeeds
	}
	for {
		if ch := c.changed.Load(); ch != nil {
			return *ch
		}
		ch := make(chan struct{})
		if c.changed.CompareAndSwap(nil, &ch) {
			return ch
		}
	}
}

// wake makes all calls of Await try again.
func (c *Conn) wake() {
	if ch := c.changed.Swap(nil); ch != nil {
		close(*ch)
	}
}

// maxDenied is the number of denied requests after which a connection is closed.
const maxDenied = 8

// Deny records that a request of a stranger was denied because there are too many.
// After maxDenied of them it closes the connection, because more requests would
// cost more than a new handshake.
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

// move moves the connection like enter, with l.mu held. It returns the connection
// to close, or nil.
func (c *Conn) move(stage int32, clientID string) (victim *Conn) {
	from := c.at.Load()
	if c.holder == nil || from >= stage { // closed, or moved by another request
		return nil
	}
	p := c.party
	if clientID != "" {
		p = party{clientID: clientID}
	}
	return c.change(stage, p)
}

// change moves the connection to a stage and a party, with l.mu held. It returns the
// connection to close, or nil.
func (c *Conn) change(stage int32, p party) (victim *Conn) {
	c.l.stages[c.at.Load()].remove(c)
	c.at.Store(stage)
	c.unanswered.Store(0)
	c.party = p
	return c.l.stages[stage].add(c)
}

// evict closes a connection that was displaced.
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

// isGone reports whether the connection was closed or displaced.
func (c *Conn) isGone() bool {
	c.l.mu.Lock()
	defer c.l.mu.Unlock()
	return c.holder == nil
}

// Write writes b and makes the connection the youngest of its party. Only answers
// do so, so a peer gains nothing by sending a request slowly.
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

// allowTime moves the write deadline if less than half of the timeout is left. The
// caller holds l.mu.
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

// SetWriteDeadline does nothing with a Config.WriteTimeout, which replaces the
// server's deadlines.
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

// network returns the Network of a.
func network(a net.Addr) netip.Prefix {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	return Network(tcp.AddrPort().Addr())
}

// Network returns the prefix that counts as one party: an IPv4 address or an IPv6
// /64.
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
