package acmeserver

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/fair"
	"github.com/acmeproxy/acmeproxy/pkg/work"
)

// turns has what a process knows about orders in progress: the places for issuances and
// validations, each shared among the owners, and the requests that wait for an outcome.
type turns struct {
	issuances, validations *fair.Places

	ctx    context.Context //nolint:containedctx // of the issuances that requests began: they outlive the request
	cancel context.CancelFunc

	mu       sync.Mutex              // guards the fields below
	stopped  bool                    // no issuance may begin
	running  sync.WaitGroup          // issuances that requests began
	watchers map[string][]chan Order // by order
}

func newTurns(l Limits) *turns {
	t := &turns{
		issuances: fair.New(shares(l.Issuances)), validations: fair.New(shares(l.Validations)),
		watchers: map[string][]chan Order{},
	}
	t.ctx, t.cancel = context.WithCancel(context.Background()) //nolint:gosec // stopAfter calls cancel
	return t
}

// shares reserves a quarter of the places for owners that hold none.
func shares(places int) fair.Limits {
	reserve := places / 4
	return fair.Limits{Total: places - reserve, Reserve: reserve}
}

// watch returns a channel with an order after each next call of the issuer. It may miss
// some of them, but not the last one. The caller must call stop.
func (t *turns) watch(id string) (outcomes <-chan Order, stop func()) {
	ch := make(chan Order, 1)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.watchers[id] = append(t.watchers[id], ch)
	return ch, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.watchers[id] = slices.DeleteFunc(t.watchers[id], func(other chan Order) bool { return other == ch })
		if len(t.watchers[id]) == 0 {
			delete(t.watchers, id)
		}
	}
}

// tell passes an order to the requests that wait for it.
func (t *turns) tell(o Order) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, ch := range t.watchers[o.ID] {
		select {
		case <-ch: // an older one
		default:
		}
		ch <- o
	}
}

// begin takes a place for an issuance that outlives its request, and waits some time for
// it. It reports false if the owner cannot have one by then, or the Server stops. The
// caller must call end.
func (t *turns) begin(ctx context.Context, owner string, wait time.Duration) (end func(), ok bool) {
	limited, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	release, err := t.issuances.Acquire(limited, owner, nil)
	if err != nil {
		return nil, false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stopped {
		release()
		return nil, false
	}
	t.running.Add(1)
	return func() { release(); t.running.Done() }, true
}

// stopAfter waits until ctx ends, and then for the issuances in progress. Their context
// ends after the time that the jobs of the loop have, too.
func (t *turns) stopAfter(ctx context.Context) {
	<-ctx.Done()
	t.mu.Lock()
	t.stopped = true
	t.mu.Unlock()
	abort := time.AfterFunc(work.Grace, t.cancel)
	defer abort.Stop()
	t.running.Wait()
}
