package challenge

import (
	"context"
	"sync"
	"time"
)

// Turns serializes the challenges of exclusive solvers, and pauses between them. The
// zero value is ready to use, concurrently.
type Turns struct {
	mu sync.Mutex
	by map[string]*turn // by exclusive key; guarded by mu
}

type turn struct {
	taken chan struct{} // holds one element while the turn is taken
	users int           // holders and waiters; guarded by Turns.mu
	free  time.Time     // end of the pause after the last holder; guarded by Turns.mu
}

// Take waits for the turn of a key and reports whether it had to wait. The caller
// must release the turn, with the pause before the next one.
func (t *Turns) Take(ctx context.Context, key string) (release func(pause time.Duration), waited bool, err error) {
	own := t.enter(key)
	select {
	case own.taken <- struct{}{}:
	default:
		waited = true
		select {
		case own.taken <- struct{}{}:
		case <-ctx.Done():
			t.leave(own)
			return nil, true, ctx.Err()
		}
	}
	release = func(pause time.Duration) {
		t.mu.Lock()
		own.free = time.Now().Add(pause)
		t.mu.Unlock()
		<-own.taken
		t.leave(own)
	}
	t.mu.Lock()
	rest := time.Until(own.free)
	t.mu.Unlock()
	if rest <= 0 {
		return release, waited, nil
	}
	timer := time.NewTimer(rest)
	defer timer.Stop()
	select {
	case <-timer.C:
		return release, true, nil
	case <-ctx.Done():
		release(time.Until(own.free))
		return nil, true, ctx.Err()
	}
}

// enter returns the turn of a key, and deletes the turns that nothing needs.
func (t *Turns) enter(key string) *turn {
	t.mu.Lock()
	defer t.mu.Unlock()
	for k, other := range t.by {
		if other.users == 0 && time.Now().After(other.free) {
			delete(t.by, k)
		}
	}
	if t.by == nil {
		t.by = map[string]*turn{}
	}
	own := t.by[key]
	if own == nil {
		own = &turn{taken: make(chan struct{}, 1)}
		t.by[key] = own
	}
	own.users++
	return own
}

func (t *Turns) leave(own *turn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	own.users--
}

// Holders counts the orders that need one answer. Two orders may share an
// authorization, and one must not remove the answer that the other needs. The zero
// value is ready to use, concurrently.
type Holders struct {
	mu sync.Mutex
	of map[Challenge]int // guarded by mu
}

// Hold counts one more, before the answer is published.
func (h *Holders) Hold(c Challenge) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.of == nil {
		h.of = map[Challenge]int{}
	}
	h.of[c]++
}

// Holds reports whether an answer with this token is needed.
func (h *Holders) Holds(token string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.of {
		if c.Token == token {
			return true
		}
	}
	return false
}

// Drop counts one less, and reports whether the answer can be removed.
func (h *Holders) Drop(c Challenge) (last bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.of[c]--; h.of[c] > 0 {
		return false
	}
	delete(h.of, c)
	return true
}

// Places holds the Holders of each place to which solvers publish. A process shares one
// among its solvers with earlier and later settings, so that none of them removes an
// answer that another one still needs. The zero value is ready to use, concurrently.
type Places struct {
	mu sync.Mutex
	at map[string]*Holders // by place; guarded by mu
}

// Holders returns the holders of the answers at a place, such as a folder or a DNS
// provider. They stay in memory, because each new place is an administrator's change.
// A nil Places returns new ones.
func (p *Places) Holders(place string) *Holders {
	if p == nil {
		return new(Holders)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.at == nil {
		p.at = map[string]*Holders{}
	}
	if p.at[place] == nil {
		p.at[place] = new(Holders)
	}
	return p.at[place]
}
