package renewal_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/issuer"
	"github.com/acmeproxy/acmeproxy/pkg/renewal"
)

// Failures persist with the row, so the wait grows over restarts; Retry-After
// wins, and nothing is ever tried again at once.
func TestRetryAt(t *testing.T) {
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	permanent := &issuer.Error{Kind: issuer.Permanent}
	temporary := &issuer.Error{Kind: issuer.Temporary}
	limited := &issuer.Error{Kind: issuer.RateLimited}
	asks := func(kind issuer.Kind, wait time.Duration) error {
		return fmt.Errorf("obtain: %w", &issuer.Error{Kind: kind, RetryAt: now.Add(wait)})
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
		{"rate limit, told", 0, asks(issuer.RateLimited, time.Minute), time.Minute, 66 * time.Second},
		{"rate limit, told", 3, asks(issuer.RateLimited, time.Minute), time.Minute, 66 * time.Second},
		{"rate limit, told", 0, asks(issuer.RateLimited, 7*day), 7 * day, 7*day + time.Hour},
		{"rate limit, in the past", 0, asks(issuer.RateLimited, -time.Hour), 54 * time.Minute, time.Hour},
		{"rate limit, now", 0, asks(issuer.RateLimited, 0), 54 * time.Minute, time.Hour},
		{"temporary, told", 0, asks(issuer.Temporary, time.Hour), time.Hour, 66 * time.Minute},
		{"temporary, told too little", 9, asks(issuer.Temporary, time.Second), 54 * time.Minute, time.Hour},
		{"permanent, told", 3, asks(issuer.Permanent, 2*day), 2 * day, 2*day + time.Hour},
		{"permanent, told too little", 3, asks(issuer.Permanent, time.Hour), day - day/10, day},
	} {
		for range 50 {
			wait := renewal.RetryAt(now, c.failures, c.cause).Sub(now)
			if wait < c.least || wait > c.most {
				t.Errorf("%s after %d: %s, want %s to %s", c.name, c.failures, wait, c.least, c.most)
				break
			}
		}
	}
}

// What failed together does not come back together, whoever says when.
func TestRetryAtSpreads(t *testing.T) {
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	for _, cause := range []error{
		&issuer.Error{Kind: issuer.Permanent}, &issuer.Error{Kind: issuer.Temporary},
		&issuer.Error{Kind: issuer.RateLimited, RetryAt: now.Add(time.Hour)},
	} {
		moments := map[time.Time]bool{}
		for range 100 {
			moments[renewal.RetryAt(now, 2, cause)] = true
		}
		if len(moments) < 50 {
			t.Errorf("%v: %d moments for 100 rows", cause, len(moments))
		}
	}
}
