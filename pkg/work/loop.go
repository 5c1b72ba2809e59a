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

// Job does one piece of claimed work and records its own failure in the store. When
// ctx ends, it releases the claim and returns soon.
type Job func(ctx context.Context)

// Source provides due work.
type Source interface {
	// Claim claims at most limit (1 or more) due pieces of work. It returns no error
	// if nothing is due, and no jobs with an error.
	Claim(ctx context.Context, limit int) ([]Job, error)
	// Next returns when work will be due; managed.ErrNotFound means never.
	Next(ctx context.Context) (time.Time, error)
}

// Loop runs the jobs of a Source when they become due.
type Loop struct {
	source  Source
	workers int
	log     *slog.Logger
	now     func() time.Time
	wake    chan struct{}
}

// Grace is how long work in flight may continue after Run was asked to stop.
const Grace = 20 * time.Second

const (
	longestPause = time.Minute     // another instance may make rows due
	afterError   = 2 * time.Second // pause after an error of the store
)

// NewLoop returns a loop that does at most workers jobs at a time.
func NewLoop(s Source, workers int, now func() time.Time, log *slog.Logger) *Loop {
	return &Loop{source: s, workers: workers, now: now, log: log, wake: make(chan struct{}, 1)}
}

// Wake makes the loop look for due work now. It never blocks.
func (l *Loop) Wake() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Run runs jobs until ctx ends, then waits for those in flight. Their context ends
// after Grace.
func (l *Loop) Run(ctx context.Context) {
	work, abort := context.WithCancel(context.WithoutCancel(ctx))
	defer abort()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(Grace, abort) })
	defer stop()
	var jobs sync.WaitGroup
	defer jobs.Wait()
	var busy atomic.Int32 // jobs in flight
	for ctx.Err() == nil {
		// Jobs start only here, so every claimed job starts at once. No job waits
		// with a lease that is not renewed.
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
			l.pause(ctx, err, int(busy.Load()) == l.workers)
		}
	}
}

// claim claims up to room jobs. It does not ask the Source for 0, which could mean
// any number.
func (l *Loop) claim(ctx context.Context, room int) ([]Job, error) {
	if room <= 0 {
		return nil, nil
	}
	return l.source.Claim(ctx, room)
}

// pause waits until the next due time, until a worker is free again, or until Wake.
func (l *Loop) pause(ctx context.Context, claimErr error, full bool) {
	t := time.NewTimer(l.pauseTime(ctx, claimErr, full))
	defer t.Stop()
	select {
	case <-t.C:
	case <-l.wake:
	case <-ctx.Done():
	}
}

func (l *Loop) pauseTime(ctx context.Context, claimErr error, full bool) time.Duration {
	if full {
		return longestPause // a finished job calls Wake
	}
	next, err := l.source.Next(ctx)
	switch {
	case errors.Is(err, managed.ErrNotFound) && claimErr == nil:
		return longestPause
	case err != nil || claimErr != nil:
		return afterError
	}
	// The extra time prevents a busy loop.
	return min(max(next.Sub(l.now()), 0)+5*time.Millisecond, longestPause)
}

// Tick runs all jobs that are due now and returns when they have ended. Tests call
// it instead of Run.
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
