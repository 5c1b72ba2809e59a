package renewal

import (
	"context"
	"crypto/rand"
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
	rows, err := q.cfg.Store.ClaimDue(ctx, owner, Lease, limit)
	jobs := make([]Job, len(rows))
	for i, row := range rows {
		jobs[i] = func(ctx context.Context) { q.work(ctx, owner, row) }
	}
	return jobs, err
}

// work carries one row through its mode, with the lease kept alive.
func (q *Queue) work(ctx context.Context, owner string, row store.Managed) {
	st := q.cfg.Store
	hold := Hold{
		Extend:   func(ctx context.Context, lease time.Duration) error { return st.ExtendLease(ctx, row.ID, owner, lease) },
		Release:  func(ctx context.Context) error { return st.ReleaseLease(ctx, row.ID, owner) },
		Fail:     func(ctx context.Context, f store.Failure) error { return st.FailManaged(ctx, row.ID, owner, f) },
		Failures: row.Failures, NotAfter: row.NotAfter, CA: q.cfg.DirectoryURL,
		Failed: "no certificate yet", Now: q.cfg.Now,
		Log: q.cfg.Logger.With("mode", row.Mode, "names", row.Names, "certificate", row.ID),
	}
	failed := hold.Run(ctx, func(ctx context.Context) error {
		mode, ok := q.cfg.Modes[row.Mode]
		if !ok {
			return fmt.Errorf("mode %q is not served by this instance", row.Mode)
		}
		return mode.Renew(ctx, &Claim{Managed: row, cfg: q.cfg, owner: owner})
	})
	if failed && q.cfg.Failed != nil {
		q.cfg.Failed(row.ID)
	}
}

// random is uniform between zero and d.
func random(d time.Duration) time.Duration { return mathrand.N(d + 1) }
