// Package fair shares a limited number of places among clients, so that no
// client keeps others from being served (X42).
//
// A free place goes to the waiting client that holds fewest places, and among
// those to the one that was served longest ago. A client that holds none takes
// a place from a reserve when all others are taken: clients whose work does not
// end delay only themselves.
//
//	places := fair.New(fair.Limits{Total: 64, PerClient: 32, Reserve: 192})
//	release, err := places.Acquire(ctx, clientID, nil)
package fair

import (
	"context"
	"sync"
)

// Limits are the numbers of places. Total must be positive.
type Limits struct {
	Total     int // places for which all clients compete
	PerClient int // places that one client can hold; 0: Total
	Reserve   int // places beyond Total, for clients that hold fewer than Own; 0: there are none
	Own       int // places of one client for which the reserve is there; 0: 1
}

// Places is safe for concurrent use. Its memory grows with the number of
// clients that hold or await a place, and is bounded for others.
type Places struct {
	limits Limits

	mu      sync.Mutex         // guards what follows
	taken   int                // places
	grants  uint64             // so far
	clients map[string]*client // by id
	waiting map[string]*client // those of clients whose queue is not empty
}

// client is guarded by Places.mu.
type client struct {
	held   int
	served uint64 // Places.grants at its last grant; 0: never
	queue  []*waiter
}

type waiter struct{ granted chan struct{} } // closed when it holds a place

// remembered is the number of idle clients about which it is known when they
// were served.
const remembered = 4096

// New returns places that are all free.
func New(l Limits) *Places {
	if l.PerClient <= 0 {
		l.PerClient = l.Total
	}
	l.Own = max(l.Own, 1)
	return &Places{limits: l, clients: map[string]*client{}, waiting: map[string]*client{}}
}

// Held returns the number of places that the client holds.
func (p *Places) Held(id string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c := p.clients[id]; c != nil {
		return c.held
	}
	return 0
}

// Try takes a place for the client if it may have one now. The caller must call
// release; to call it again does nothing.
func (p *Places) Try(id string) (release func(), ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.client(id)
	if !p.mayHave(c) {
		p.forgetIdle(id, c)
		return nil, false
	}
	p.grant(c)
	return p.releaser(id, c), true
}

// Acquire waits for a place. queued, if not nil, is called once if there is
// none right away. The error is that of ctx.
func (p *Places) Acquire(ctx context.Context, id string, queued func()) (release func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	p.mu.Lock()
	c := p.client(id)
	if p.mayHave(c) { // then no waiter of this client is in front
		p.grant(c)
		p.mu.Unlock()
		return p.releaser(id, c), nil
	}
	w := &waiter{granted: make(chan struct{})}
	c.queue = append(c.queue, w)
	p.waiting[id] = c
	p.mu.Unlock()
	if queued != nil {
		queued()
	}
	select {
	case <-w.granted:
		return p.releaser(id, c), nil
	case <-ctx.Done():
		p.leave(id, c, w)
		return nil, ctx.Err()
	}
}

// leave ends the wait, or gives back what was granted in the same moment.
func (p *Places) leave(id string, c *client, w *waiter) {
	p.mu.Lock()
	for i, other := range c.queue {
		if other == w {
			c.queue = append(c.queue[:i], c.queue[i+1:]...)
			p.noLongerWaiting(id, c)
			p.forgetIdle(id, c)
			p.mu.Unlock()
			return
		}
	}
	p.mu.Unlock()
	p.releaser(id, c)()
}

// client finds the client's state. The caller holds mu, as for all below.
func (p *Places) client(id string) *client {
	c := p.clients[id]
	if c == nil {
		c = &client{}
		p.clients[id] = c
	}
	return c
}

func (p *Places) mayHave(c *client) bool {
	switch {
	case c.held >= p.limits.PerClient:
		return false
	case p.taken < p.limits.Total:
		return true
	}
	return c.held < p.limits.Own && p.taken < p.limits.Total+p.limits.Reserve
}

func (p *Places) grant(c *client) {
	p.taken++
	p.grants++
	c.held++
	c.served = p.grants
}

// releaser returns what gives one place back, once.
func (p *Places) releaser(id string, c *client) func() {
	return sync.OnceFunc(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.taken--
		c.held--
		for {
			nextID, next := p.next()
			if next == nil {
				break
			}
			p.grant(next)
			close(next.queue[0].granted)
			next.queue = next.queue[1:]
			p.noLongerWaiting(nextID, next)
		}
		p.forgetIdle(id, c)
	})
}

// next is the waiting client that is to have a place now; nil if none may.
func (p *Places) next() (id string, best *client) {
	for otherID, c := range p.waiting {
		if p.mayHave(c) && (best == nil || c.held < best.held || c.held == best.held && c.served < best.served ||
			c.held == best.held && c.served == best.served && otherID < id) {
			id, best = otherID, c
		}
	}
	return id, best
}

func (p *Places) noLongerWaiting(id string, c *client) {
	if len(c.queue) == 0 {
		c.queue = nil
		delete(p.waiting, id)
	}
}

// forgetIdle drops the state of a client that neither holds nor awaits a place,
// if that was never served or too many are remembered.
func (p *Places) forgetIdle(id string, c *client) {
	if c.held == 0 && len(c.queue) == 0 && (c.served == 0 || len(p.clients) > remembered) {
		delete(p.clients, id)
	}
}
