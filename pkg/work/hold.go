package work

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/managed"
)

// Lease is how long a claim lasts without renewal.
const Lease = 2 * time.Minute

// Hold describes a claimed row: a certificate to renew or to deploy. Its functions
// return [managed.ErrLost] if the lease was lost.
type Hold struct {
	Extend  func(ctx context.Context, lease time.Duration) error
	Release func(ctx context.Context) error // leaves the row due
	Fail    func(ctx context.Context, f managed.Failure) error
	Done    func(ctx context.Context) error // records success; if nil, the work does

	Failures int       // of earlier attempts
	Planned  time.Time // next attempt of the program's own, if a person caused this one; otherwise zero
	NotAfter time.Time // end of the present certificate; zero without one
	CA       string    // its next success ends the delay after a temporary failure; if empty, only time does
	Failed   string    // log message for a failure
	Log      *slog.Logger
	Now      func() time.Time

	until atomic.Int64 // end of the lease, in Unix milliseconds
}

// Run calls work while it renews the lease, and records the outcome. It reports
// whether a failure was recorded. If ctx ends, Run releases the row.
func (h *Hold) Run(ctx context.Context, work func(ctx context.Context) error) (failed bool) {
	held, lost := context.WithCancel(ctx)
	defer lost()
	h.extended()
	go h.renewLease(held, lost)
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
	case ctx.Err() != nil: // a shutdown; the next holder continues
		if err := h.Release(context.WithoutCancel(ctx)); err != nil && !errors.Is(err, managed.ErrLost) {
			h.Log.Warn("cannot give the claim back", "error", err, "next_attempt", h.leaseEnd())
		}
		return false
	}
	return h.fail(ctx, err)
}

// fail records a failure and then logs it with the time of the next attempt. That
// is the end of the lease if the failure cannot be recorded.
func (h *Hold) fail(ctx context.Context, cause error) bool {
	f := h.failure(h.Now(), cause)
	err := Persist(ctx, func(ctx context.Context) error { return h.Fail(ctx, f) })
	switch {
	case errors.Is(err, managed.ErrLost): // its specification changed, or it was deleted
		h.Log.Debug(h.Failed, "error", cause, "lost", true) //nolint:sloglint // a constant of each source
	case err != nil:
		h.Log.Error(h.Failed+", which cannot be recorded", "error", cause, "record_error", err, "next_attempt", h.leaseEnd()) //nolint:sloglint // a constant of each source
	default:
		h.Log.Warn(h.Failed, "error", cause, "attempt", h.Failures+1, "next_attempt", f.RetryAt) //nolint:sloglint // a constant of each source
	}
	return err == nil
}

// renewLease renews the lease until held ends. It calls lost when the lease is lost.
func (h *Hold) renewLease(held context.Context, lost func()) {
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
			// Another error may end before the lease does.
		}
	}
}

func (h *Hold) extended() { h.until.Store(h.Now().Add(Lease).UnixMilli()) }

func (h *Hold) leaseEnd() time.Time { return time.UnixMilli(h.until.Load()).UTC() }

// Persist retries a write for half a minute while the database is at fault, so that
// a short outage loses no finished work. After ctx has ended it tries once.
func Persist(ctx context.Context, write func(ctx context.Context) error) error {
	return PersistIf(ctx, managed.IsFault, write)
}

// PersistIf is Persist for a storage with other errors. isFault reports whether a retry
// may succeed after an error; it gets no nil.
func PersistIf(ctx context.Context, isFault func(error) bool, write func(ctx context.Context) error) error {
	const longest = 16 * time.Second
	for pause := time.Second; ; pause *= 2 {
		attempt, cancel := context.WithTimeout(context.WithoutCancel(ctx), longest)
		err := write(attempt)
		cancel()
		if err == nil || !isFault(err) || pause > longest {
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
