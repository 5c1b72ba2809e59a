package work

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/managed"
)

// Lease is how long a row stays ours without a sign of life.
const Lease = 2 * time.Minute

// Hold is a claimed row: a certificate to renew or one to deploy. Its functions
// return [managed.ErrLost] if the row is not ours any more.
type Hold struct {
	Extend  func(ctx context.Context, lease time.Duration) error
	Release func(ctx context.Context) error // as due as it was
	Fail    func(ctx context.Context, f managed.Failure) error
	Done    func(ctx context.Context) error // records success; nil if the work does

	Failures int       // of earlier attempts
	NotAfter time.Time // end of the present certificate; zero if there is none
	CA       string    // whose success ends the delay after a temporary failure; empty: only time does
	Failed   string    // log message for a failure
	Log      *slog.Logger
	Now      func() time.Time

	until atomic.Int64 // end of the lease, in Unix milliseconds
}

// Run works on the row while it renews the lease, and records what came of it.
// It reports whether a failure was recorded. If ctx ends, the row is given back.
func (h *Hold) Run(ctx context.Context, work func(ctx context.Context) error) (failed bool) {
	held, lost := context.WithCancel(ctx)
	defer lost()
	h.extended()
	go h.keep(held, lost)
	err := work(held)
	if err == nil && h.Done != nil {
		if err = Persist(ctx, h.Done); managed.IsFault(err) {
			h.Log.Error("the work is done, but that cannot be recorded, so it is repeated", "error", err, "next_attempt", h.leaseEnd())
			return false
		}
	}
	switch {
	case err == nil:
		return false
	case ctx.Err() != nil: // we are asked to stop: the next holder continues
		if err := h.Release(context.WithoutCancel(ctx)); err != nil && !errors.Is(err, managed.ErrLost) {
			h.Log.Warn("cannot give the claim back", "error", err, "next_attempt", h.leaseEnd())
		}
		return false
	}
	return h.fail(ctx, err)
}

// fail logs the time of the next attempt only when it is known whether the
// failure could be recorded: otherwise it is the end of the lease.
func (h *Hold) fail(ctx context.Context, cause error) bool {
	f := failure(h.Now(), h.Failures, h.NotAfter, h.CA, cause)
	err := Persist(ctx, func(ctx context.Context) error { return h.Fail(ctx, f) })
	switch {
	case errors.Is(err, managed.ErrLost): // it is wanted differently now, or not at all
		h.Log.Debug(h.Failed, "error", cause, "lost", true) //nolint:sloglint // a constant of each source
	case err != nil:
		h.Log.Error(h.Failed+", which cannot be recorded", "error", cause, "record_error", err, "next_attempt", h.leaseEnd()) //nolint:sloglint // a constant of each source
	default:
		h.Log.Warn(h.Failed, "error", cause, "attempt", h.Failures+1, "next_attempt", f.RetryAt) //nolint:sloglint // a constant of each source
	}
	return err == nil
}

// keep renews the lease until held ends; losing it ends the work.
func (h *Hold) keep(held context.Context, lost func()) {
	t := time.NewTicker(Lease / 4)
	defer t.Stop()
	for {
		select {
		case <-held.Done():
			return
		case <-t.C:
			switch err := h.Extend(held, Lease); {
			case err == nil:
				h.extended()
			case errors.Is(err, managed.ErrLost):
				lost()
				return
			}
			// Any other error may pass before the lease does.
		}
	}
}

func (h *Hold) extended() { h.until.Store(h.Now().Add(Lease).UnixMilli()) }

func (h *Hold) leaseEnd() time.Time { return time.UnixMilli(h.until.Load()).UTC() }

// Persist repeats a write for half a minute while the database is at fault, so
// that a short outage does not cost what was done. After ctx has ended it tries
// once.
func Persist(ctx context.Context, write func(ctx context.Context) error) error {
	const longest = 16 * time.Second
	for pause := time.Second; ; pause *= 2 {
		attempt, cancel := context.WithTimeout(context.WithoutCancel(ctx), longest)
		err := write(attempt)
		cancel()
		if !managed.IsFault(err) || pause > longest {
			return err
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return err
		}
	}
}
