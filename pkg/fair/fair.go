// Package fair shares a limited number of places among clients, so that no
// client prevents others from being served (X42).
//
// A free place goes to the waiting client that holds fewest places, and among
// those to the one that was served longest ago. If all places are taken, a client
// that holds none gets a place from a reserve. So clients whose work does not end
// delay only themselves.
//
//	places := fair.New(fair.Limits{Total: 64, PerClient: 32, Reserve: 192})
//	release, err := places.Acquire(ctx, clientID, nil)
package fair

import (
	"context"
	"sync"
)

// Limits holds the numbers of places. Total must be positive.
type Limits struct {
	Total     int // places for which all clients compete
	PerClient int // places that one client can hold; Total if 0
	Reserve   int // places beyond Total, for clients that hold fewer than Own
	Own       int // places that one client can hold before the reserve refuses it; 1 if 0
}

// Places shares places among clients. It is safe for concurrent use. Its memory
// grows with the number of clients that hold or await a place, and is bounded for
// other clients.
type Places struct {
	limits Limits

	mu      sync.Mutex         // guards the fields below
	taken   int                // number of taken places
	grants  uint64             // number of grants so far
	clients map[string]*client // by id
	waiting map[string]*client // the clients whose queue is not empty
}

// client holds the state of one client. It is guarded by Places.mu.
type client struct {
	held   int
	served uint64 // Places.grants at its last grant; 0 if it was never served
	queue  []*waiter
}

type waiter struct{ granted chan struct{} } // closed when it holds a place

// maxClients is the number of clients above which idle ones are dropped.
const maxClients = 4096

// New returns Places that are all free.
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

// Try takes a place for the client if one is available for it now. The caller must
// call release. Another call of release does nothing.
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

// Acquire waits for a place. If it has to wait and queued is not nil, it calls
// queued once. The error is that of ctx.
func (p *Places) Acquire(ctx context.Context, id string, queued func()) (release func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	p.mu.Lock()
	c := p.client(id)
	if p.mayHave(c) { // then this client has no waiter
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

// leave ends the wait, or releases a place that was granted at the same moment.
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

// client returns the client's state, and creates it if necessary. The caller holds
// mu, as for all methods below.
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

// releaser returns a function that releases one place, once.
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

// next returns the waiting client that gets the next place, or nil.
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

// forgetIdle drops the state of a client that neither holds nor awaits a place, if
// it was never served or there are too many clients.
func (p *Places) forgetIdle(id string, c *client) {
	if c.held == 0 && len(c.queue) == 0 && (c.served == 0 || len(p.clients) > maxClients) {
		delete(p.clients, id)
	}
}
