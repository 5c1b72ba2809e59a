package work_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/watch"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/work"
)

// agenda is a Source of work that becomes due at known times.
type agenda struct {
	mu    sync.Mutex
	dueAt []time.Time // guarded by mu, as the rest
	begun []time.Time
	fails error // of Claim
	asked int   // calls of Claim
	hold  chan struct{}
}

func (a *agenda) add(at time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.dueAt = append(a.dueAt, at)
}

func (a *agenda) failWith(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.fails = err
}

func (a *agenda) Claim(_ context.Context, limit int) ([]work.Job, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked++
	if a.fails != nil {
		return nil, a.fails
	}
	var jobs []work.Job
	var later []time.Time
	for _, at := range a.dueAt {
		if at.After(time.Now()) || len(jobs) == limit {
			later = append(later, at)
			continue
		}
		jobs = append(jobs, a.work)
	}
	a.dueAt = later
	return jobs, nil
}

func (a *agenda) work(ctx context.Context) {
	a.mu.Lock()
	a.begun = append(a.begun, time.Now())
	a.mu.Unlock()
	if a.hold != nil {
		select {
		case <-a.hold:
		case <-ctx.Done():
		}
	}
}

func (a *agenda) Next(context.Context) (time.Time, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.dueAt) == 0 {
		return time.Time{}, managed.ErrNotFound
	}
	first := a.dueAt[0]
	for _, at := range a.dueAt {
		if at.Before(first) {
			first = at
		}
	}
	return first, nil
}

func (a *agenda) counts() (begun []time.Time, asked int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]time.Time(nil), a.begun...), a.asked
}

// Work begins when it is due, not at the next turn of a clock.
func TestLoopNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		a := &agenda{}
		for _, after := range []time.Duration{0, 10 * time.Second, 17 * time.Second, 3 * time.Hour} {
			a.add(start.Add(after))
		}
		l := work.NewLoop(a, 2, time.Now, slog.New(slog.DiscardHandler))
		stop := watch.Run(t, l.Run)
		time.Sleep(4 * time.Hour)
		begun, asked := a.counts()
		if len(begun) != 4 {
			t.Fatalf("%d begun, want 4", len(begun))
		}
		for i, want := range []time.Duration{0, 10 * time.Second, 17 * time.Second, 3 * time.Hour} {
			if got := begun[i].Sub(start); got < want || got > want+10*time.Millisecond {
				t.Errorf("work %d begun after %s, want %s", i, got, want)
			}
		}
		if asked > 260 { // once a minute is enough to see what others made due
			t.Errorf("%d claims in 4 hours", asked)
		}
		stop()
	})
}

// Wake brings new work forward; without it a minute may pass.
func TestLoopWake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &agenda{}
		l := work.NewLoop(a, 2, time.Now, slog.New(slog.DiscardHandler))
		stop := watch.Run(t, l.Run)
		synctest.Wait()
		a.add(time.Now())
		l.Wake()
		l.Wake() // never blocks
		l.Wake()
		synctest.Wait()
		if begun, _ := a.counts(); len(begun) != 1 {
			t.Errorf("%d begun after Wake, want 1", len(begun))
		}
		a.add(time.Now())
		time.Sleep(time.Minute + time.Second)
		if begun, _ := a.counts(); len(begun) != 2 {
			t.Errorf("%d begun after a minute, want 2", len(begun))
		}
		stop()
	})
}

// A Wake while all workers are busy is not lost.
func TestLoopWakeWhenFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &agenda{hold: make(chan struct{})}
		a.add(time.Now())
		l := work.NewLoop(a, 1, time.Now, slog.New(slog.DiscardHandler))
		stop := watch.Run(t, l.Run)
		synctest.Wait()
		a.add(time.Now())
		l.Wake()
		synctest.Wait()
		if begun, _ := a.counts(); len(begun) != 1 {
			t.Fatalf("%d begun by one worker", len(begun))
		}
		a.hold <- struct{}{}
		synctest.Wait()
		if begun, _ := a.counts(); len(begun) != 2 {
			t.Errorf("%d begun after the first was done, want 2", len(begun))
		}
		close(a.hold)
		stop()
	})
}

// A store that fails is asked again after a pause, and each failure is logged.
func TestLoopClaimFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var text strings.Builder // written by the loop's goroutine only, read after it
		a := &agenda{fails: errors.New("disk on fire")}
		l := work.NewLoop(a, 2, time.Now, slog.New(slog.NewTextHandler(&text, nil)))
		stop := watch.Run(t, l.Run)
		time.Sleep(time.Minute)
		if _, asked := a.counts(); asked < 25 || asked > 35 {
			t.Errorf("asked %d times in a minute, want about 30", asked)
		}
		a.failWith(nil)
		a.add(time.Now())
		time.Sleep(3 * time.Second)
		if begun, _ := a.counts(); len(begun) != 1 {
			t.Errorf("%d begun after the store was well again, want 1", len(begun))
		}
		stop()
		if n := strings.Count(text.String(), "disk on fire"); n < 25 || n > 35 {
			t.Errorf("told %d times", n)
		}
	})
}

// Work in flight may continue for a while after the stop, and Run waits for it.
func TestLoopStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &agenda{hold: make(chan struct{})}
		a.add(time.Now())
		a.add(time.Now())
		l := work.NewLoop(a, 2, time.Now, slog.New(slog.DiscardHandler))
		stop := watch.Run(t, l.Run)
		synctest.Wait()
		begin := time.Now()
		time.AfterFunc(time.Second, func() { a.hold <- struct{}{} }) // one is done soon, one is not
		stop()
		if got := time.Since(begin); got != work.Grace {
			t.Errorf("Run ended %s after the stop, want %s", got, work.Grace)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		l := work.NewLoop(&agenda{}, 2, time.Now, slog.New(slog.DiscardHandler))
		stop := watch.Run(t, l.Run)
		synctest.Wait()
		begin := time.Now()
		stop()
		if got := time.Since(begin); got != 0 {
			t.Errorf("an idle loop ended after %s", got)
		}
	})
}

// Tick runs all jobs that are due, in rounds, and no others.
func TestTick(t *testing.T) {
	a := &agenda{}
	for range 7 {
		a.add(time.Now())
	}
	a.add(time.Now().Add(time.Hour))
	l := work.NewLoop(a, 3, time.Now, slog.New(slog.DiscardHandler))
	if err := l.Tick(t.Context()); err != nil {
		t.Fatal(err)
	}
	if begun, _ := a.counts(); len(begun) != 7 {
		t.Errorf("%d begun, want 7", len(begun))
	}
	a.failWith(errors.New("disk on fire"))
	if err := l.Tick(t.Context()); err == nil {
		t.Error("the error of Claim is lost")
	}
}
