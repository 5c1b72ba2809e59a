package renewal

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"time"

	"filippo.io/age"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/issuer"
	"github.com/acmeproxy/acmeproxy/pkg/store"
)

// Mode is what a mode does with a row that is due.
type Mode interface {
	// Renew decides whether the row may still have a certificate and calls
	// Claim.Obtain. An error is kept with the row, which is tried again later.
	Renew(ctx context.Context, c *Claim) error
}

// Issuer is the part of issuer.Issuer that is needed here.
type Issuer interface {
	Issue(ctx context.Context, req cert.Request, emit func(issuer.Event)) (*cert.Bundle, error)
}

// Config is shared by all claims of one instance.
type Config struct {
	Store        *store.Store
	Issuer       Issuer
	DirectoryURL string              // of the issuer's CA, kept in the journal
	Identity     *age.X25519Identity // the proxy's own; journalled keys are sealed to it
	Modes        map[string]Mode     // by store.Managed.Mode
	Owner        string              // this instance, unique among all that share the store
	Failed       func(certID string) // told of each failure, once it is with the row; nil: nobody
	Logger       *slog.Logger
	Now          func() time.Time
}

// lease is how long a row stays ours without a sign of life.
const lease = 2 * time.Minute

// Queue claims managed certificates that are due.
type Queue struct{ cfg Config }

// NewQueue returns the Source of due certificates.
func NewQueue(cfg Config) *Queue { return &Queue{cfg} }

// Next implements Source.
func (q *Queue) Next(ctx context.Context) (time.Time, error) { return q.cfg.Store.NextDue(ctx) }

// Claim implements Source.
func (q *Queue) Claim(ctx context.Context, limit int) ([]Job, error) {
	// Each claim has a name of its own. A row that comes free under our feet (it
	// is wanted differently now, or this process slept through its lease) may be
	// claimed by this very instance again; what was begun before must lose it.
	owner := q.cfg.Owner + "/" + rand.Text()[:8]
	rows, err := q.cfg.Store.ClaimDue(ctx, owner, lease, limit)
	jobs := make([]Job, len(rows))
	for i, row := range rows {
		jobs[i] = func(ctx context.Context) { q.work(ctx, owner, row) }
	}
	return jobs, err
}

// work carries one row through its mode, with the lease kept alive.
func (q *Queue) work(ctx context.Context, owner string, row store.Managed) {
	log := q.cfg.Logger.With("mode", row.Mode, "names", row.Names, "certificate", row.ID)
	mode, ok := q.cfg.Modes[row.Mode]
	if !ok {
		q.fail(ctx, owner, row, fmt.Errorf("mode %q is not served by this instance", row.Mode), log)
		return
	}
	held, lost := context.WithCancel(ctx)
	defer lost()
	go q.keepLease(held, lost, row.ID, owner)
	err := mode.Renew(held, &Claim{Managed: row, cfg: q.cfg, owner: owner})
	switch {
	case err == nil:
	case ctx.Err() != nil: // we are asked to stop: whoever comes next goes on
		if err := q.cfg.Store.ReleaseLease(context.WithoutCancel(ctx), row.ID, owner); err != nil {
			log.Warn("cannot give the claim back; it comes free by itself", "error", err)
		}
	default:
		q.fail(ctx, owner, row, err, log)
	}
}

// keepLease renews the lease until held ends; losing it ends the work.
func (q *Queue) keepLease(held context.Context, lost func(), id, owner string) {
	t := time.NewTicker(lease / 4)
	defer t.Stop()
	for {
		select {
		case <-held.Done():
			return
		case <-t.C:
			err := q.cfg.Store.ExtendLease(held, id, owner, lease)
			if errors.Is(err, store.ErrLost) {
				lost()
				return
			}
			// Any other error may pass before the lease does.
		}
	}
}

func (q *Queue) fail(ctx context.Context, owner string, row store.Managed, cause error, log *slog.Logger) {
	retryAt := RetryAt(q.cfg.Now(), row.Failures, cause)
	log.Warn("no certificate yet", "error", cause, "attempt", row.Failures+1, "next_attempt", retryAt)
	err := q.cfg.Store.FailManaged(context.WithoutCancel(ctx), row.ID, owner, cause.Error(), retryAt)
	if err != nil && !errors.Is(err, store.ErrLost) { // lost: it is wanted differently now, or not at all
		log.Error("cannot record the failure; the claim comes free by itself", "error", err)
	}
	if err == nil && q.cfg.Failed != nil {
		q.cfg.Failed(row.ID)
	}
}

// random is uniform between zero and d.
func random(d time.Duration) time.Duration { return mathrand.N(d + 1) }
