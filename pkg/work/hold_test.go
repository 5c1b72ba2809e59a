package work_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/store"
	"github.com/acmeproxy/acmeproxy/pkg/work"
)

// closed is the error of a database that is unreachable.
func closed(t *testing.T) error {
	t.Helper()
	s, err := store.Open(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "db")})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return s.ReleaseLease(t.Context(), "id", "owner")
}

// heldRow is a row whose database works again at a certain time.
type heldRow struct {
	gone    error
	mu      sync.Mutex // guards the rest
	back    time.Time
	done    []time.Time
	failed  []managed.Failure
	extends int
}

func (r *heldRow) do(f func()) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Now().Before(r.back) {
		return r.gone
	}
	f()
	return nil
}

func (r *heldRow) hold(log *bytes.Buffer) *work.Hold {
	return &work.Hold{
		Extend:  func(context.Context, time.Duration) error { return r.do(func() { r.extends++ }) },
		Release: func(context.Context) error { return errors.New("it is not given back") },
		Fail: func(_ context.Context, f managed.Failure) error {
			return r.do(func() { r.failed = append(r.failed, f) })
		},
		Done: func(context.Context) error { return r.do(func() { r.done = append(r.done, time.Now()) }) },
		CA:   "ca", Failed: "failed", Log: slog.New(slog.NewJSONHandler(log, nil)), Now: time.Now,
	}
}

// A failed write is retried until the database is back. If it stays away, the log
// names the end of the lease.
func TestHoldOutlastsDatabase(t *testing.T) {
	cause := &acme.Error{Kind: acme.Temporary, Detail: "503"}
	for _, c := range []struct {
		name    string
		away    time.Duration // after the work
		result  error
		written bool
	}{
		{"success, back after seconds", 20 * time.Second, nil, true},
		{"failure, back after seconds", 20 * time.Second, cause, true},
		{"success, not back", time.Hour, nil, false},
		{"failure, not back", time.Hour, cause, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			gone := closed(t)
			synctest.Test(t, func(t *testing.T) {
				var log bytes.Buffer
				row := &heldRow{gone: gone}
				row.hold(&log).Run(t.Context(), func(context.Context) error {
					time.Sleep(10 * time.Minute)
					row.mu.Lock()
					defer row.mu.Unlock()
					row.back = time.Now().Add(c.away)
					return c.result
				})
				row.mu.Lock()
				defer row.mu.Unlock()
				if row.extends < 19 {
					t.Errorf("the lease was renewed %d times in ten minutes", row.extends)
				}
				if got := len(row.done) + len(row.failed); got > 1 || (got == 1) != c.written {
					t.Errorf("done %v, failed %+v", row.done, row.failed)
				}
				if len(row.failed) == 1 && (row.failed[0].With != "ca" || row.failed[0].Local) {
					t.Errorf("recorded %+v", row.failed[0])
				}
				if c.written && c.result == nil {
					return
				}
				var line struct {
					Next time.Time `json:"next_attempt"`
				}
				if err := json.Unmarshal(log.Bytes(), &line); err != nil {
					t.Fatalf("%v: %s", err, &log)
				}
				want := row.back.Add(-c.away).Add(work.Lease) // the end of the lease
				if c.written {
					want = row.failed[0].RetryAt
				}
				if d := line.Next.Sub(want).Abs(); d > 31*time.Second {
					t.Errorf("the log names %v, want %v", line.Next, want)
				}
			})
		})
	}
}

// A shutdown releases the row and records no failure.
func TestHoldStops(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	row, released := &heldRow{}, false
	hold := row.hold(&bytes.Buffer{})
	hold.Release = func(context.Context) error { released = true; return nil }
	hold.Run(ctx, func(ctx context.Context) error { stop(); return ctx.Err() })
	if !released || len(row.failed)+len(row.done) > 0 {
		t.Errorf("released %v, %+v", released, row)
	}
}
