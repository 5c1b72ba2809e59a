package renewal

import (
	"cmp"
	"context"
	"crypto"
	"crypto/rand"
	"fmt"
	"log/slog"
	"maps"
	mathrand "math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"filippo.io/age"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/fair"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
)

// Mode is what a mode does with a row that is due.
type Mode interface {
	// Renew decides whether the row may still have a certificate and calls
	// Claim.Obtain. An error is kept with the row, which is tried again later.
	Renew(ctx context.Context, c *Claim) error
}

// Issuer is the part of issuer.Issuer that is needed here.
type Issuer interface {
	Issue(ctx context.Context, req cert.Request, emit func(acme.Event)) (*cert.Bundle, error)
	// GenerateKey waits for the client's turn first.
	GenerateKey(ctx context.Context, client string, t cert.KeyType) (crypto.Signer, error)
}

// Store stores due certificates, their leases, the journal and bundles. Its
// methods may be used concurrently. After a lease was lost they return
// managed.ErrLost and change nothing.
type Store interface {
	Due(ctx context.Context) ([]managed.Due, error)
	Claim(ctx context.Context, owner string, lease time.Duration, ids []string) ([]managed.Certificate, error)
	NextDue(ctx context.Context) (time.Time, error)
	ExtendLease(ctx context.Context, id, owner string, lease time.Duration) error
	ReleaseLease(ctx context.Context, id, owner string) error
	FailManaged(ctx context.Context, id, owner string, f managed.Failure) error
	OrderFor(ctx context.Context, managedID string) (managed.Order, error)
	SaveOrder(ctx context.Context, owner string, o managed.Order) error
	DeleteOrder(ctx context.Context, owner, managedID string) error
	CompleteManaged(ctx context.Context, owner string, b managed.Bundle, dueAt time.Time, hook bool) error
	ClientByID(ctx context.Context, id string) (clients.Client, error)
}

// Config is shared by all claims of one instance.
type Config struct {
	Store        Store
	Issuer       Issuer
	DirectoryURL string                // of the issuer's CA, kept in the journal
	Identity     *age.X25519Identity   // the proxy's own; journalled keys are sealed to it
	Modes        map[clients.Mode]Mode // by managed.Certificate.Mode
	Owner        string                // this instance, unique among all that share the store
	Failed       func(certID string)   // told of each failure, once it is with the row; nil: nobody
	Logger       *slog.Logger
	Now          func() time.Time
}

// Workers is the number of jobs for which a Loop over a Queue needs room. The
// clients compete for a part of it, of which one can have half; the rest is for
// clients that nothing is done for (X42).
const (
	Workers = sharedWorkers + reservedWorkers

	sharedWorkers   = 64
	reservedWorkers = 192
	heldBackPause   = time.Second // until clients that have used up their shares are asked for again
)

// Queue claims managed certificates that are due.
type Queue struct {
	cfg      Config
	places   *fair.Places
	heldBack atomic.Bool // the last Claim left due rows to clients whose shares are used up
}

// NewQueue returns the Source of due certificates.
func NewQueue(cfg Config) *Queue {
	return &Queue{cfg: cfg, places: fair.New(fair.Limits{
		Total: sharedWorkers, PerClient: sharedWorkers / 2, Reserve: reservedWorkers,
	})}
}

// Next implements Source.
func (q *Queue) Next(ctx context.Context) (time.Time, error) {
	next, err := q.cfg.Store.NextDue(ctx)
	if later := q.cfg.Now().Add(heldBackPause); err == nil && q.heldBack.Load() && next.Before(later) {
		next = later // the end of a job wakes the loop before
	}
	return next, err
}

// Claim implements Source. The rows of all clients take turns, and those of a
// client for which less is being done come first.
func (q *Queue) Claim(ctx context.Context, limit int) ([]Job, error) {
	due, err := q.cfg.Store.Due(ctx)
	if err != nil {
		return nil, err
	}
	places := q.take(due, limit)
	// Each claim has a name of its own. A row that comes free under our feet (it
	// is wanted differently now, or this process slept through its lease) may be
	// claimed by this very instance again; what was begun before must lose it.
	owner := q.cfg.Owner + "/" + rand.Text()[:8]
	rows, err := q.cfg.Store.Claim(ctx, owner, Lease, slices.Collect(maps.Keys(places)))
	jobs := make([]Job, len(rows))
	for i, row := range rows {
		release := places[row.ID]
		delete(places, row.ID)
		jobs[i] = func(ctx context.Context) {
			defer release()
			q.work(ctx, owner, row)
		}
	}
	for _, release := range places { // another instance has the row
		release()
	}
	return jobs, err
}

// take returns the ids of rows for which there is room, with what gives the
// room back.
func (q *Queue) take(due []managed.Due, limit int) map[string]func() {
	held := map[string]int{}
	for _, d := range due {
		held[d.ClientID] = q.places.Held(d.ClientID)
	}
	slices.SortStableFunc(due, func(a, b managed.Due) int {
		return cmp.Compare(held[a.ClientID]+a.Turn, held[b.ClientID]+b.Turn)
	})
	places, heldBack := map[string]func(){}, false
	for _, d := range due {
		if len(places) == limit {
			break
		}
		if release, ok := q.places.Try(d.ClientID); ok {
			places[d.ID] = release
		} else {
			heldBack = true
		}
	}
	q.heldBack.Store(heldBack)
	return places
}

// work carries one row through its mode, with the lease kept alive.
func (q *Queue) work(ctx context.Context, owner string, row managed.Certificate) {
	st := q.cfg.Store
	hold := Hold{
		Extend:   func(ctx context.Context, lease time.Duration) error { return st.ExtendLease(ctx, row.ID, owner, lease) },
		Release:  func(ctx context.Context) error { return st.ReleaseLease(ctx, row.ID, owner) },
		Fail:     func(ctx context.Context, f managed.Failure) error { return st.FailManaged(ctx, row.ID, owner, f) },
		Failures: row.Failures, NotAfter: row.NotAfter, CA: q.cfg.DirectoryURL,
		Failed: "no certificate yet", Now: q.cfg.Now,
		Log: q.cfg.Logger.With("mode", row.Mode, "names", row.Names, "certificate", row.ID),
	}
	failed := hold.Run(ctx, func(ctx context.Context) error {
		mode, ok := q.cfg.Modes[row.Mode]
		if !ok {
			return fmt.Errorf("mode %q is not served by this instance", row.Mode)
		}
		return mode.Renew(ctx, &Claim{Certificate: row, cfg: q.cfg, owner: owner})
	})
	if failed && q.cfg.Failed != nil {
		q.cfg.Failed(row.ID)
	}
}

// random is uniform between zero and d.
func random(d time.Duration) time.Duration { return mathrand.N(d + 1) }
