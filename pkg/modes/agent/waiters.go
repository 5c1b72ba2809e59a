package agent

import "sync"

// Waiters wakes the callers that wait for a change of one certificate. The zero value
// is ready for use, concurrently. It uses memory only while callers wait. Modes that
// replace each other share one.
type Waiters struct {
	mu      sync.Mutex
	waiting map[string]*waitGroup // by certificate, guarded by mu
}

// waitGroup holds the callers that the same wake-up ends.
type waitGroup struct {
	wake chan struct{} // closed by wake
	n    int           // callers that have not left
}

// join returns a channel that the next wake for id closes. The caller must call leave
// once.
func (w *Waiters) join(id string) (wake <-chan struct{}, leave func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waiting == nil {
		w.waiting = map[string]*waitGroup{}
	}
	g := w.waiting[id]
	if g == nil {
		g = &waitGroup{wake: make(chan struct{})}
		w.waiting[id] = g
	}
	g.n++
	return g.wake, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if g.n--; g.n == 0 && w.waiting[id] == g {
			delete(w.waiting, id)
		}
	}
}

// wake wakes the callers that wait for a change of id.
func (w *Waiters) wake(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if g := w.waiting[id]; g != nil {
		close(g.wake)
		delete(w.waiting, id)
	}
}
