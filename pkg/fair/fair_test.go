package fair_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/fair"
)

// take calls Try and checks whether it succeeds.
func take(t *testing.T, p *fair.Places, client string, want bool) (release func()) {
	t.Helper()
	release, ok := p.Try(client)
	if ok != want {
		t.Fatalf("Try(%q) is %v, want %v", client, ok, want)
	}
	return release
}

// One client gets no more than its share. A client that holds none gets a place of
// the reserve when all others are taken, and the reserve is limited (X42).
func TestShares(t *testing.T) {
	t.Parallel()
	p := fair.New(fair.Limits{Total: 4, PerClient: 2, Reserve: 2})
	a := take(t, p, "a", true)
	take(t, p, "a", true)
	take(t, p, "a", false)
	b := take(t, p, "b", true)
	take(t, p, "b", true)
	take(t, p, "c", true) // from the reserve
	take(t, p, "c", false)
	take(t, p, "d", true)
	take(t, p, "e", false)
	a()
	a() // does nothing
	take(t, p, "c", false)
	take(t, p, "e", true)
	b()
	take(t, p, "f", true)
	if n := p.Held("a"); n != 1 {
		t.Errorf("a holds %d, want 1", n)
	}
}

// Each client can have Own places with the reserve.
func TestOwnPlaces(t *testing.T) {
	t.Parallel()
	p := fair.New(fair.Limits{Total: 1, Reserve: 4, PerClient: 3, Own: 2})
	for _, c := range []string{"a", "b"} {
		take(t, p, c, true)
		take(t, p, c, true)
		take(t, p, c, false)
	}
}

// The next place goes to the client that holds fewest, then to the one that was
// served longest ago, even if others have queued before (X42).
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := fair.New(fair.Limits{Total: 1})
		free := take(t, p, "hostile", true)
		var served []string
		var mu sync.Mutex
		queue := func(client string, n int) {
			for range n {
				go func() {
					release, err := p.Acquire(t.Context(), client, nil)
					if err != nil {
						return
					}
					mu.Lock()
					served = append(served, client)
					mu.Unlock()
					time.Sleep(time.Second) // synctest's time
					release()
				}()
			}
			synctest.Wait()
		}
		queue("hostile", 3)
		queue("a", 2)
		queue("b", 1)
		free()
		time.Sleep(time.Minute)
		synctest.Wait()
		want := []string{"a", "b", "hostile", "a", "hostile", "hostile"}
		if !slices.Equal(served, want) {
			t.Errorf("served %v, want %v", served, want)
		}
	})
}

// A wait ends with its context, and then holds no place.
func TestWaitEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := fair.New(fair.Limits{Total: 1})
		free := take(t, p, "a", true)
		ctx, cancel := context.WithCancel(t.Context())
		queued := false
		ended := make(chan error)
		go func() {
			_, err := p.Acquire(ctx, "b", func() { queued = true })
			ended <- err
		}()
		synctest.Wait()
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) || !queued {
			t.Errorf("error %v, queued %v", err, queued)
		}
		if _, err := p.Acquire(ctx, "b", nil); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v with an ended context", err)
		}
		free()
		take(t, p, "b", true)
	})
}

// Many clients that acquire, give up and release leave no state behind, and never
// hold more than the total.
func TestConcurrent(t *testing.T) {
	t.Parallel()
	p := fair.New(fair.Limits{Total: 4, PerClient: 2, Reserve: 2})
	var held fairCount
	var all sync.WaitGroup
	for i := range 64 {
		all.Go(func() {
			client := fmt.Sprint(i % 9)
			for range 50 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.N(200))*time.Microsecond)
				release, err := p.Acquire(ctx, client, nil)
				if err == nil {
					held.add(t, 1)
					held.add(t, -1)
					release()
				}
				cancel()
			}
		})
	}
	all.Wait()
	for i := range 4 {
		take(t, p, fmt.Sprint("new", i), true)
	}
}

type fairCount struct {
	mu sync.Mutex
	n  int // guarded by mu
}

func (c *fairCount) add(t *testing.T, d int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n += d; c.n > 6 {
		t.Errorf("%d places are held", c.n)
	}
}
