package work_test

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/store"
	"github.com/acmeproxy/acmeproxy/pkg/work"
)

// Failures persist with the row, so the wait grows over restarts. Retry-After takes
// precedence, and no attempt is repeated at once.
func TestRetryAt(t *testing.T) {
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	permanent := &acme.Error{Kind: acme.Permanent}
	temporary := &acme.Error{Kind: acme.Temporary}
	limited := &acme.Error{Kind: acme.RateLimited}
	asks := func(kind acme.Kind, wait time.Duration) error {
		return fmt.Errorf("obtain: %w", &acme.Error{Kind: kind, RetryAt: now.Add(wait)})
	}
	const day = 24 * time.Hour
	for _, c := range []struct {
		name        string
		failures    int
		cause       error
		least, most time.Duration
	}{
		{"permanent", 0, permanent, 54 * time.Second, time.Minute},
		{"permanent", 1, permanent, 9 * time.Minute, 10 * time.Minute},
		{"permanent", 2, permanent, 90 * time.Minute, 100 * time.Minute},
		{"permanent", 3, permanent, day - day/10, day},
		{"permanent", 1000, permanent, day - day/10, day},
		{"another error", 0, errors.New("policy"), 54 * time.Second, time.Minute},
		{"another error", 9, errors.New("policy"), day - day/10, day},
		{"temporary", 0, temporary, 9 * time.Second, 10 * time.Second},
		{"temporary", 1, temporary, 18 * time.Second, 20 * time.Second},
		{"temporary", 8, temporary, 2304 * time.Second, 2560 * time.Second},
		{"temporary", 9, temporary, 54 * time.Minute, time.Hour},
		{"temporary", 1 << 40, temporary, 54 * time.Minute, time.Hour},
		{"rate limit", 0, limited, 54 * time.Minute, time.Hour},
		{"rate limit", 2, limited, 90 * time.Minute, 100 * time.Minute},
		{"rate limit, told", 0, asks(acme.RateLimited, time.Minute), time.Minute, 66 * time.Second},
		{"rate limit, told", 3, asks(acme.RateLimited, time.Minute), time.Minute, 66 * time.Second},
		{"rate limit, told", 0, asks(acme.RateLimited, 7*day), 7 * day, 7*day + time.Hour},
		{"rate limit, in the past", 0, asks(acme.RateLimited, -time.Hour), 54 * time.Minute, time.Hour},
		{"rate limit, now", 0, asks(acme.RateLimited, 0), 54 * time.Minute, time.Hour},
		{"temporary, told", 0, asks(acme.Temporary, time.Hour), time.Hour, 66 * time.Minute},
		{"temporary, told too little", 9, asks(acme.Temporary, time.Second), 54 * time.Minute, time.Hour},
		{"permanent, told", 3, asks(acme.Permanent, 2*day), 2 * day, 2*day + time.Hour},
		{"permanent, told too little", 3, asks(acme.Permanent, time.Hour), day - day/10, day},
	} {
		for range 50 {
			wait := work.RetryAt(now, c.failures, time.Time{}, c.cause).Sub(now)
			if wait < c.least || wait > c.most {
				t.Errorf("%s after %d: %s, want %s to %s", c.name, c.failures, wait, c.least, c.most)
				break
			}
		}
	}
}

// A delay that the CA did not ask for can be ended by a person (X44).
func TestWaitUntil(t *testing.T) {
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	full := &fs.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}
	for name, c := range map[string]struct {
		cause error
		want  time.Duration // from now; -1: the time of the next attempt
		none  bool
	}{
		"permanent":              {&acme.Error{Kind: acme.Permanent}, 0, true},
		"temporary":              {&acme.Error{Kind: acme.Temporary}, 0, true},
		"another error":          {errors.New("policy"), 0, true},
		"limited":                {&acme.Error{Kind: acme.RateLimited}, -1, false},
		"limited, told":          {&acme.Error{Kind: acme.RateLimited, RetryAt: now.Add(time.Hour)}, time.Hour, false},
		"temporary, told little": {&acme.Error{Kind: acme.Temporary, RetryAt: now.Add(time.Second)}, time.Second, false},
		"permanent, told":        {fmt.Errorf("x: %w", &acme.Error{Kind: acme.Permanent, RetryAt: now.Add(48 * time.Hour)}), 48 * time.Hour, false},
		"told too much":          {&acme.Error{Kind: acme.RateLimited, RetryAt: now.Add(100 * 24 * time.Hour)}, -1, false},
		"told the past":          {&acme.Error{Kind: acme.Temporary, RetryAt: now.Add(-time.Hour)}, 0, true},
		"disk":                   {&acme.Error{Kind: acme.RateLimited, RetryAt: now.Add(time.Hour), Err: full}, 0, true},
	} {
		retryAt := work.RetryAt(now, 3, time.Time{}, c.cause)
		got, want := work.WaitUntil(now, retryAt, c.cause), now.Add(c.want)
		if c.want < 0 {
			want = retryAt
		}
		if c.none {
			want = time.Time{}
		}
		if !got.Equal(want) || got.After(retryAt) {
			t.Errorf("%s: %v, want %v; next attempt %v", name, got, want, retryAt)
		}
	}
}

// Attempts that failed together are not repeated together, even if the CA named the
// time.
func TestRetryAtSpreads(t *testing.T) {
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	for _, cause := range []error{
		&acme.Error{Kind: acme.Permanent}, &acme.Error{Kind: acme.Temporary},
		&acme.Error{Kind: acme.RateLimited, RetryAt: now.Add(time.Hour)},
	} {
		moments := map[time.Time]bool{}
		for range 100 {
			moments[work.RetryAt(now, 2, time.Time{}, cause)] = true
		}
		if len(moments) < 50 {
			t.Errorf("%v: %d moments for 100 rows", cause, len(moments))
		}
	}
}

// A delay never exceeds a tenth of the certificate's remaining life, except what
// the CA asks for, and never comes near the CA's limits.
func TestRetryAtLife(t *testing.T) {
	const day = 24 * time.Hour
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	temporary, permanent := &acme.Error{Kind: acme.Temporary}, &acme.Error{Kind: acme.Permanent}
	told := &acme.Error{Kind: acme.RateLimited, RetryAt: now.Add(2 * day)}
	for _, c := range []struct {
		name        string
		left        time.Duration
		cause       error
		least, most time.Duration
	}{
		{"temporary", 5 * time.Hour, temporary, 27 * time.Minute, 30 * time.Minute},
		{"temporary, much left", 30 * day, temporary, 54 * time.Minute, time.Hour},
		{"temporary, minutes left", 3 * time.Minute, temporary, 54 * time.Second, time.Minute},
		{"permanent", 2 * day, permanent, 4 * time.Hour, 288 * time.Minute},
		{"permanent, an hour left", time.Hour, permanent, 13 * time.Minute, 15 * time.Minute},
		{"another error", 2 * day, errors.New("policy"), 4 * time.Hour, 288 * time.Minute},
		{"told", time.Hour, told, 2 * day, 2*day + time.Hour},
		{"ended", -time.Hour, permanent, day - day/10, day},
	} {
		for range 50 {
			wait := work.RetryAt(now, 9, now.Add(c.left), c.cause).Sub(now)
			if wait < c.least || wait > c.most {
				t.Errorf("%s: %s, want %s to %s", c.name, wait, c.least, c.most)
				break
			}
		}
	}
	longest := &acme.Error{Kind: acme.RateLimited, RetryAt: now.Add(cert.LongestWait)}
	if at := work.RetryAt(now, 0, time.Time{}, longest); cert.IsParked(at, time.Time{}, now) {
		t.Errorf("a wait that the CA may ask for looks like that of a wrong clock: %s", at)
	}
}

// Faults of this host are distinguished from those of the CA, and retried soon.
func TestLocalFaults(t *testing.T) {
	now := time.Now()
	s, err := store.Open(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "db")})
	if err != nil {
		t.Fatal(err)
	}
	_, notFound := s.ManagedByID(t.Context(), "none")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	_, closed := s.ManagedByID(t.Context(), "none")
	_, noFile := os.Open(filepath.Join(t.TempDir(), "none"))
	full := &fs.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}
	for _, c := range []struct {
		name  string
		cause error
		local bool
	}{
		{"database", closed, true},
		{"database, in an issuance", &acme.Error{Kind: acme.Temporary, Err: closed}, true},
		{"no such row", notFound, false},
		{"disk full", fmt.Errorf("write: %w", full), true},
		{"disk full, in an issuance", &acme.Error{Kind: acme.Permanent, Err: full}, true},
		{"file", noFile, true},
		{"file, in an issuance", &acme.Error{Kind: acme.Permanent, Err: noFile}, false}, // it may cost an order
		{"connection", &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}, false},
		{"CA", &acme.Error{Kind: acme.Temporary}, false},
	} {
		if got := work.IsLocal(c.cause); got != c.local {
			t.Errorf("%s: %v: local %v", c.name, c.cause, got)
		}
		if wait := work.RetryAt(now, 50, time.Time{}, c.cause).Sub(now); c.local != (wait <= time.Minute) {
			t.Errorf("%s: retry after %s", c.name, wait)
		}
	}
}

// A failed attempt that a person caused does not push the program's own next attempt
// away, unless the CA asked for that (X44).
func TestAfterTry(t *testing.T) {
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		failures                   int
		planned, retry, wait, want time.Duration // from now; 0: none
		tried                      bool
	}{
		"the program's own attempt":          {2, 0, time.Hour, 0, time.Hour, false},
		"a try":                              {2, 9 * time.Minute, time.Hour, 0, 9 * time.Minute, true},
		"a try that fails for another cause": {2, 9 * time.Minute, time.Minute, 0, time.Minute, true},
		"it outlasted the planned time":      {2, -time.Second, time.Hour, 0, time.Hour, false},
		"the CA asks to wait":                {2, 9 * time.Minute, time.Hour, 50 * time.Minute, time.Hour, true},
		"the CA's limit without a time":      {2, 9 * time.Minute, time.Hour, time.Hour, time.Hour, true},
		"the CA asks for less":               {3, 9 * time.Minute, 24 * time.Hour, time.Minute, 9 * time.Minute, true},
		"the first counted failure":          {0, time.Second, time.Minute, 0, time.Minute, false},
		"a planned time of a wrong clock":    {2, 100000 * time.Hour, time.Hour, 0, time.Hour, true},
	} {
		at := func(d time.Duration) time.Time {
			if d == 0 {
				return time.Time{}
			}
			return now.Add(d)
		}
		got, tried := work.AfterTry(now, c.failures, at(c.planned), at(c.retry), at(c.wait))
		if !got.Equal(at(c.want)) || tried != c.tried {
			t.Errorf("%s: in %v, %v", name, got.Sub(now), tried)
		}
	}
}
