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
