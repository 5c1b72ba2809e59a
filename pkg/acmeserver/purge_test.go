package acmeserver_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
)

// purged is a storage that records its purges.
type purged struct {
	*acmeserver.Memory
	mu              sync.Mutex // guards the rest
	nonces, records []purge
	more            int // calls of Purge after which there is more
	err             error
}

// purge is a call: when, what it deletes, and whether it had a limit and a deadline.
type purge struct {
	at, before time.Time
	bounded    bool
}

func newPurge(ctx context.Context, before time.Time, limit int) purge {
	_, bounded := ctx.Deadline()
	return purge{time.Now(), before, bounded && limit > 0}
}

func (p *purged) PurgeNonces(ctx context.Context, before time.Time, limit int) (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.nonces = append(p.nonces, newPurge(ctx, before, limit))
	return false, p.err
}

func (p *purged) Purge(ctx context.Context, before time.Time, limit int) (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.records = append(p.records, newPurge(ctx, before, limit))
	p.more--
	return p.more >= 0, p.err
}

// runFor runs a server on a storage for a time and returns its log.
func runFor(t *testing.T, storage *purged, d time.Duration) string {
	t.Helper()
	var log logs
	s := newServer(t, func(c *acmeserver.Config) {
		c.Storage, c.Logger, c.Limits.Keep = storage, log.logger(), 48*time.Hour
	})
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	s.Run(ctx)
	if since := time.Since(start(t)); since > d {
		t.Errorf("Run ended after %v", since)
	}
	return log.take()
}

// start returns the time at which each bubble of synctest begins.
func start(t *testing.T) time.Time {
	t.Helper()
	return time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
}

// C3, C12: ended records are deleted once in an hour, and used nonces more often. The first
// records are deleted when the clock has been steady for six hours.
func TestPurge(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		storage := &purged{Memory: acmeserver.NewMemory()}
		runFor(t, storage, 30*time.Hour)
		checkPurges(t, storage.records, 23, 28, 48*time.Hour)
		checkPurges(t, storage.nonces, 175, 205, 10*time.Minute)
		if first := storage.records[0].at.Sub(start(t)); first < 6*time.Hour || first > 7*time.Hour+15*time.Minute {
			t.Errorf("the first purge of records came after %v", first)
		}
		if first := storage.nonces[0].at.Sub(start(t)); first > 3*time.Minute {
			t.Errorf("the first purge came after %v", first)
		}
	})
}

func checkPurges(t *testing.T, calls []purge, least, most int, age time.Duration) {
	t.Helper()
	if len(calls) < least || len(calls) > most {
		t.Errorf("%d purges instead of %d to %d", len(calls), least, most)
	}
	for _, p := range calls {
		if p.at.Sub(p.before) != age || !p.bounded {
			t.Errorf("purge at %s: %+v", p.at, p)
		}
	}
}

// C12: a purge continues while there is more, with pauses for others. A failure is logged,
// and the next one comes when it would have come anyway.
func TestPurgeMore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		storage := &purged{Memory: acmeserver.NewMemory(), more: 7}
		runFor(t, storage, 8*time.Hour)
		if n := len(storage.records); n < 8 || n > 10 {
			t.Errorf("%d purges", n)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		storage := &purged{Memory: acmeserver.NewMemory(), more: 2500}
		runFor(t, storage, 8*time.Hour)
		if n := len(storage.records); n < 2501 || n > 2503 || storage.records[1000].at.Sub(storage.records[999].at) < time.Second {
			t.Errorf("%d purges", n)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		storage := &purged{Memory: acmeserver.NewMemory(), err: errors.New("disk full"), more: 7}
		log := runFor(t, storage, 24*time.Hour)
		failure := `level=WARN msg="purge failed" error="disk full"`
		if n := len(storage.records); n < 17 || n > 22 || !strings.Contains(log, failure) {
			t.Errorf("%d purges, log %s", n, log)
		}
	})
}

// A clock that jumps, and is wrong for some hours, deletes no records of certificates: they
// are needed to revoke them (C12).
func TestPurgeUnderAWrongClock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		storage := &purged{Memory: acmeserver.NewMemory()}
		var clock wrongClock
		clock.ahead.Store(int64(12 * 365 * 24 * time.Hour)) // until it asked a time server
		time.AfterFunc(5*time.Hour, func() { clock.ahead.Store(0) })
		time.AfterFunc(20*time.Hour, func() { clock.ahead.Store(-int64(365 * 24 * time.Hour)) })
		s := newServer(t, func(c *acmeserver.Config) {
			c.Storage, c.Now, c.Limits.Keep = storage, clock.now, 48*time.Hour
		})
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Hour)
		defer cancel()
		s.Run(ctx)
		for _, p := range storage.records {
			if after := p.at.Sub(start(t)); after < 11*time.Hour || after > 20*time.Hour && after < 26*time.Hour {
				t.Errorf("purge of what ended before %s, after %s", p.before, after)
			}
		}
		if n := len(storage.records); n < 10 {
			t.Errorf("%d purges", n)
		}
	})
}
