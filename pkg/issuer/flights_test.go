package issuer

import (
	"context"
	"runtime"
	"sync"
	"testing"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
)

// A panic reaches each caller and does not end the process. The next request starts
// a new flight.
func TestPanicOfASharedIssuance(t *testing.T) {
	var fs flights
	entered, release := make(chan struct{}), make(chan struct{})
	emit := func(acme.Event) {}
	join := func(run runFunc) (recovered any) {
		defer func() { recovered = recover() }()
		_, _ = fs.join(t.Context(), "key", emit, run) // it panics
		return nil
	}
	var callers sync.WaitGroup
	got := make(chan any, 2)
	callers.Go(func() {
		got <- join(func(context.Context, func(acme.Event)) (*cert.Bundle, error) {
			close(entered)
			<-release
			panic("broken")
		})
	})
	<-entered
	fs.mu.Lock()
	fl := fs.by["key"]
	fs.mu.Unlock()
	callers.Go(func() { got <- join(nil) })
	for joined := false; !joined; {
		fs.mu.Lock()
		joined = fl.waiting == 2
		fs.mu.Unlock()
		runtime.Gosched()
	}
	close(release)
	callers.Wait()
	for range 2 {
		if r := <-got; r != "broken" {
			t.Errorf("recovered %v", r)
		}
	}
	b, err := fs.join(t.Context(), "key", emit, func(context.Context, func(acme.Event)) (*cert.Bundle, error) {
		return &cert.Bundle{}, nil
	})
	if b == nil || err != nil {
		t.Errorf("the next request: %v, %v", b, err)
	}
}

// A caller that does not read its events does not delay the issuance, nor the other
// callers. It misses events that it was too slow for.
func TestSlowCallerOfASharedIssuance(t *testing.T) {
	var fs flights
	joined, release := make(chan struct{}), make(chan struct{})
	const sent = 3 * maxEvents
	run := func(_ context.Context, emit func(acme.Event)) (*cert.Bundle, error) {
		emit(acme.Event{Stage: acme.Ordering})
		<-joined
		for range sent {
			emit(acme.Event{Stage: acme.Validating})
		}
		return &cert.Bundle{}, nil
	}
	var callers sync.WaitGroup
	entered := make(chan struct{})
	slow := 0
	callers.Go(func() {
		b, err := fs.join(t.Context(), "key", func(acme.Event) {
			if slow++; slow == 1 {
				close(entered)
				<-release
			}
		}, run)
		if b == nil || err != nil {
			t.Errorf("the slow caller got %v, %v", b, err)
		}
	})
	<-entered
	callers.Go(func() {
		b, err := fs.join(t.Context(), "key", func(acme.Event) {}, nil)
		if b == nil || err != nil {
			t.Errorf("the other caller got %v, %v", b, err)
		}
		close(release) // only now does the slow one read
	})
	fs.mu.Lock()
	fl := fs.by["key"]
	fs.mu.Unlock()
	for waiting := 0; waiting != 2; runtime.Gosched() {
		fs.mu.Lock()
		waiting = fl.waiting
		fs.mu.Unlock()
	}
	close(joined)
	callers.Wait()
	if slow < maxEvents || slow > sent {
		t.Errorf("the slow caller got %d events", slow)
	}
}
