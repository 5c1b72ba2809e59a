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

// C3, C12: ended records are deleted once in an hour, and used nonces more often.
func TestPurge(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		storage := &purged{Memory: acmeserver.NewMemory()}
		runFor(t, storage, 24*time.Hour)
		checkPurges(t, storage.records, 24, 28, 48*time.Hour)
		checkPurges(t, storage.nonces, 140, 165, 10*time.Minute)
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
		runFor(t, storage, 20*time.Minute)
		if n := len(storage.records); n != 8 {
			t.Errorf("%d purges", n)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		storage := &purged{Memory: acmeserver.NewMemory(), more: 2500}
		runFor(t, storage, 20*time.Minute)
		if n := len(storage.records); n != 2501 || storage.records[1000].at.Sub(storage.records[999].at) < time.Second {
			t.Errorf("%d purges", n)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		storage := &purged{Memory: acmeserver.NewMemory(), err: errors.New("disk full"), more: 7}
		log := runFor(t, storage, 24*time.Hour)
		failure := `level=WARN msg="purge failed" error="disk full"`
		if n := len(storage.records); n < 24 || n > 28 || !strings.Contains(log, failure) {
			t.Errorf("%d purges, log %s", n, log)
		}
	})
}
