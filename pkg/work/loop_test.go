package work_test

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/work"
)

// backlog is a Source with more work than workers. Like the store, it takes a
// limit of 0 for "any number".
type backlog struct {
	mu      sync.Mutex
	waiting int // guarded by mu
	begun   int // guarded by mu
	limits  []int
	release chan struct{}
}

func (b *backlog) Claim(_ context.Context, limit int) ([]work.Job, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.limits = append(b.limits, limit)
	if limit == 0 {
		limit = 100
	}
	jobs := make([]work.Job, min(limit, b.waiting))
	b.waiting -= len(jobs)
	for i := range jobs {
		jobs[i] = func(ctx context.Context) {
			b.mu.Lock()
			b.begun++
			b.mu.Unlock()
			select {
			case <-b.release:
			case <-ctx.Done():
			}
		}
	}
	return jobs, nil
}

func (b *backlog) Next(context.Context) (time.Time, error) { return time.Time{}, managed.ErrNotFound }

func (b *backlog) state() (waiting, begun int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.waiting, b.begun
}

// A busy loop claims no more than it can work on. Other rows would wait with a lease
// that is not renewed, and begin after the stop.
func TestLoopClaimsWhatItCanDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &backlog{waiting: 50, release: make(chan struct{})}
		loop := work.NewLoop(b, 3, time.Now, slog.New(slog.DiscardHandler))
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); loop.Run(ctx) }()
		synctest.Wait()
		if waiting, begun := b.state(); waiting != 47 || begun != 3 {
			t.Errorf("%d wait, %d are begun; want 47 and 3", waiting, begun)
		}
		b.release <- struct{}{}
		synctest.Wait()
		if waiting, begun := b.state(); waiting != 46 || begun != 4 {
			t.Errorf("after one was done %d wait, %d are begun; want 46 and 4", waiting, begun)
		}
		stop()
		synctest.Wait()
		select {
		case <-done:
			t.Error("the loop left its jobs in flight")
		default:
		}
		time.Sleep(work.Grace) // synctest's time
		<-done
		if waiting, begun := b.state(); waiting != 46 || begun != 4 {
			t.Errorf("after the stop %d wait, %d are begun; want 46 and 4", waiting, begun)
		}
		for _, limit := range b.limits {
			if limit < 1 {
				t.Errorf("asked for %d", limit)
			}
		}
	})
}
