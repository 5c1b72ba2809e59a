package agent

import "sync"

// bell wakes everyone who waits for news of one certificate. The zero value is
// ready; it holds memory only for those who wait.
type bell struct {
	mu      sync.Mutex
	waiting map[string]*waiters // guarded by mu
}

type waiters struct {
	rung chan struct{}
	n    int
}

// listen returns a channel that the next ring closes. leave must be called once.
func (b *bell) listen(id string) (rung <-chan struct{}, leave func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.waiting == nil {
		b.waiting = map[string]*waiters{}
	}
	w := b.waiting[id]
	if w == nil {
		w = &waiters{rung: make(chan struct{})}
		b.waiting[id] = w
	}
	w.n++
	return w.rung, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if w.n--; w.n == 0 && b.waiting[id] == w {
			delete(b.waiting, id)
		}
	}
}

func (b *bell) ring(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if w := b.waiting[id]; w != nil {
		close(w.rung)
		delete(b.waiting, id)
	}
}
