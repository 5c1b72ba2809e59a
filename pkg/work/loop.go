package work

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/managed"
)

// Job is one piece of claimed work. It reports its own failure to the store.
// When ctx ends it gives the claim back and returns soon.
type Job func(ctx context.Context)

// Source is where due work is claimed.
type Source interface {
	// Claim takes at most limit (1 or more) due pieces of work; none is not an error.
	Claim(ctx context.Context, limit int) ([]Job, error)
	// Next is when there will be work; managed.ErrNotFound means never.
	Next(ctx context.Context) (time.Time, error)
}

// Loop works on what a Source has due, as it becomes due.
type Loop struct {
	source  Source
	workers int
	log     *slog.Logger
	now     func() time.Time
	wake    chan struct{}
}

// Grace is how long work in flight may go on after Run was asked to stop.
const Grace = 20 * time.Second

const (
	longestNap = time.Minute     // rows may become due by another's hand
	afterError = 2 * time.Second // the store is unwell
)

// NewLoop returns a loop that does at most workers jobs at a time.
func NewLoop(s Source, workers int, now func() time.Time, log *slog.Logger) *Loop {
	return &Loop{source: s, workers: workers, now: now, log: log, wake: make(chan struct{}, 1)}
}

// Wake says that something has become due now. It never blocks.
func (l *Loop) Wake() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Run works until ctx ends, then waits for the jobs in flight: they see ctx
// end only after Grace.
func (l *Loop) Run(ctx context.Context) {
	work, abort := context.WithCancel(context.WithoutCancel(ctx))
	defer abort()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(Grace, abort) })
	defer stop()
	var jobs sync.WaitGroup
	defer jobs.Wait()
	var busy atomic.Int32 // jobs in flight
	for ctx.Err() == nil {
		// Only here do jobs start, so there is room for all that is claimed:
		// nothing waits with a lease that is not renewed.
		claimed, err := l.claim(ctx, l.workers-int(busy.Load()))
		if err != nil && ctx.Err() == nil {
			l.log.Error("cannot claim due work", "error", err)
		}
		for _, job := range claimed {
			busy.Add(1)
			jobs.Go(func() {
				defer func() { busy.Add(-1); l.Wake() }()
				job(work)
			})
		}
		if len(claimed) == 0 {
			l.nap(ctx, err, int(busy.Load()) == l.workers)
		}
	}
}

// claim asks for nothing when there is no room; to a Source, 0 may mean any number.
func (l *Loop) claim(ctx context.Context, room int) ([]Job, error) {
	if room <= 0 {
		return nil, nil
	}
	return l.source.Claim(ctx, room)
}

// nap waits until there may be work: at the next due time, when a worker is
// free again, or when woken.
func (l *Loop) nap(ctx context.Context, claimErr error, full bool) {
	t := time.NewTimer(l.napTime(ctx, claimErr, full))
	defer t.Stop()
	select {
	case <-t.C:
	case <-l.wake:
	case <-ctx.Done():
	}
}

func (l *Loop) napTime(ctx context.Context, claimErr error, full bool) time.Duration {
	if full {
		return longestNap // a finished job wakes us
	}
	next, err := l.source.Next(ctx)
	switch {
	case errors.Is(err, managed.ErrNotFound) && claimErr == nil:
		return longestNap
	case err != nil || claimErr != nil:
		return afterError
	}
	// A little later than due, never in a tight circle.
	return min(max(next.Sub(l.now()), 0)+5*time.Millisecond, longestNap)
}

// Tick does all work that is due now and returns when it is done: one turn of
// the loop, for tests and for whoever drives the clock.
func (l *Loop) Tick(ctx context.Context) error {
	for {
		claimed, err := l.source.Claim(ctx, l.workers)
		if err != nil || len(claimed) == 0 {
			return err
		}
		var jobs sync.WaitGroup
		for _, job := range claimed {
			jobs.Go(func() { job(ctx) })
		}
		jobs.Wait()
	}
}
