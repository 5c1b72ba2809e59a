package sign

import (
	"context"
	"sync"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
)

// flights holds the issuances in flight, so that parallel requests with the same CSR lead to
// one order. Unlike those of issuer.Pool, they survive their callers, because a script sends
// the same CSR again. The zero value is ready to use.
type flights struct {
	running sync.WaitGroup

	mu     sync.Mutex         // guards the fields below
	by     map[string]*flight // by the key of join
	closed bool
}

type flight struct {
	cancel   context.CancelFunc
	done     chan struct{} // closed at the end
	chain    []byte        // set before done is closed
	err      error         // set before done is closed
	panicked any           // run's panic value; set before done is closed
}

// join waits for the flight of a key, and starts it with run if necessary. The result
// must not be changed.
func (fs *flights) join(ctx context.Context, key string, run func(context.Context) ([]byte, error)) ([]byte, error) {
	f, err := fs.enter(ctx, key, run)
	if err != nil {
		return nil, err
	}
	select {
	case <-f.done:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if f.panicked != nil {
		panic(f.panicked)
	}
	return f.chain, f.err
}

func (fs *flights) enter(ctx context.Context, key string, run func(context.Context) ([]byte, error)) (*flight, error) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if f := fs.by[key]; f != nil {
		return f, nil
	}
	if fs.closed {
		return nil, &acme.Error{Kind: acme.Temporary, Detail: "the proxy stops; try again later"}
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	f := &flight{cancel: cancel, done: make(chan struct{})}
	if fs.by == nil {
		fs.by = map[string]*flight{}
	}
	fs.by[key] = f
	fs.running.Go(func() {
		defer cancel()
		defer close(f.done)
		defer fs.forget(key)
		defer func() { f.panicked = recover() }() // a panic here would end the process
		f.chain, f.err = run(ctx)
	})
	return f, nil
}

func (fs *flights) forget(key string) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	delete(fs.by, key)
}

// close waits for all flights, and cancels them when ctx ends. No flight begins after it.
func (fs *flights) close(ctx context.Context) {
	fs.mu.Lock()
	fs.closed = true
	fs.mu.Unlock()
	stop := context.AfterFunc(ctx, func() {
		fs.mu.Lock()
		defer fs.mu.Unlock()
		for _, f := range fs.by {
			f.cancel()
		}
	})
	defer stop()
	fs.running.Wait()
}
