package issuer

import (
	"context"
	"sync"
	"time"
)

// turns lets one at a time have what must not be shared, and keeps a pause
// between one and the next.
type turns struct {
	mu sync.Mutex
	by map[string]*turn // guarded by mu
}

type turn struct {
	taken chan struct{} // holds one while it is somebody's
	users int           // who have it or wait for it; guarded by turns.mu
	free  time.Time     // the pause after the last one is over; guarded by turns.mu
}

// take waits for the turn and tells whether it had to. The caller must release
// it, and says then how long the next one has to wait.
func (t *turns) take(ctx context.Context, key string) (release func(pause time.Duration), waited bool, err error) {
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

// enter finds the turn, and forgets those that nobody needs any more.
func (t *turns) enter(key string) *turn {
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

func (t *turns) leave(own *turn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	own.users--
}

// holders counts who needs the same answer: two orders may share an
// authorization, and what one of them takes away the other would miss.
type holders struct {
	mu sync.Mutex
	of map[challenge]int // guarded by mu
}

// hold notes one more, before the answer is put in place.
func (h *holders) hold(c challenge) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.of == nil {
		h.of = map[challenge]int{}
	}
	h.of[c]++
}

// drop notes one less, and tells whether the answer can be taken away.
func (h *holders) drop(c challenge) (last bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.of[c]--; h.of[c] > 0 {
		return false
	}
	delete(h.of, c)
	return true
}
