package renewal

import (
	"context"
	"crypto"
	"crypto/rand"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"filippo.io/age"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/fair"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/work"
)

// Mode handles one kind of managed certificate. It is safe for concurrent use.
type Mode interface {
	// Delivery decides whether the certificate may still be obtained, and returns how
	// to store the bundle. An error is recorded with the row, which is retried later.
	Delivery(ctx context.Context, m managed.Certificate) (Delivery, error)
	// Settled receives the outcome of each attempt, once it is stored. It must not
	// block.
	Settled(ctx context.Context, o managed.Outcome)
}

// Issuer is the part of issuer.Pool that this package needs.
type Issuer interface {
	Issue(ctx context.Context, req cert.Request, emit func(acme.Event)) (*cert.Bundle, error)
	// GenerateKey generates a key when it is the client's turn.
	GenerateKey(ctx context.Context, client string, t cert.KeyType) (crypto.Signer, error)
	// HasCA reports whether orders of that CA, a directory URL, can be continued.
	HasCA(ca string) bool
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
	CountTry(ctx context.Context, owner, id string, tries managed.Tries) error
	CompleteManaged(ctx context.Context, owner string, b managed.Bundle, dueAt time.Time, hook bool) error
	ClientByID(ctx context.Context, id string) (clients.Client, error)
}

// Config holds the dependencies that all claims of one instance share.
type Config struct {
	Store        Store
	Issuer       Issuer
	DirectoryURL string                // of the default CA, whose success ends the delay of a failed row
	Identity     *age.X25519Identity   // the proxy's own; journalled keys are sealed to it
	Modes        map[clients.Mode]Mode // by managed.Certificate.Mode
	Owner        string                // name of this instance, unique among all that share the store
	// Stage, if set, receives the progress of each attempt.
	Stage func(m managed.Certificate, e acme.Event)
	// Settled, if set, receives each outcome before the mode does. It must not block.
	Settled func(ctx context.Context, o managed.Outcome)
	// Shares holds the clients' shares of the workers. A process shares it among its
	// queues with earlier and later settings. If nil, the queue has its own.
	Shares *work.Shares
	Logger *slog.Logger
	Now    func() time.Time
}

// AskPause limits how often a client can request one set of names: two orders an
// hour. It counts by client and names, in all modes that store names.
var AskPause = managed.Pause{Every: time.Hour, Spare: 1}

// A person's act ends a delay that the CA did not ask for, so often. A start of the
// program may be a crash loop: it leaves one attempt an hour to people who ask. See
// docs/adr/0012.
var (
	PersonTries = managed.Tries{Hourly: 4, Daily: 24}
	StartTries  = managed.Tries{Hourly: 3, Daily: 12}
)

// ByPerson is the wish of a person who names one certificate.
var ByPerson = managed.Try{Tries: PersonTries, Pause: AskPause}

// Workers is the number of workers that a Loop over a Queue needs. The clients
// compete for a part of them, of which one client can have half. The rest is reserved
// for clients that have no work in progress (X42).
const (
	Workers = sharedWorkers + reservedWorkers

	sharedWorkers   = 64
	reservedWorkers = 192
)

// Queue claims managed certificates that are due.
type Queue struct {
	cfg    Config
	shares *work.Shares
}

// NewQueue returns the Source of due certificates.
func NewQueue(cfg Config) *Queue {
	if cfg.Shares == nil {
		cfg.Shares = NewShares()
	}
	return &Queue{cfg: cfg, shares: cfg.Shares}
}

// NewShares returns the shares of the clients in a Loop's workers.
func NewShares() *work.Shares {
	return work.NewShares(fair.Limits{Total: sharedWorkers, PerClient: sharedWorkers / 2, Reserve: reservedWorkers})
}

// Next implements work.Source.
func (q *Queue) Next(ctx context.Context) (time.Time, error) {
	next, err := q.cfg.Store.NextDue(ctx)
	if err != nil {
		return next, err
	}
	return q.shares.Next(q.cfg.Now(), next), nil
}

// Claim implements work.Source. The rows of all clients take turns, and those of a
// client for which less is being done come first.
func (q *Queue) Claim(ctx context.Context, limit int) ([]work.Job, error) {
	due, err := q.cfg.Store.Due(ctx)
	if err != nil {
		return nil, err
	}
	places := q.shares.Take(due, limit)
	// Each claim has a separate owner. This instance may claim a row again while it
	// still works on it: the row's specification changed, or this process slept
	// through its lease. The earlier work must then lose the row.
	owner := q.cfg.Owner + "/" + rand.Text()[:8]
	rows, err := q.cfg.Store.Claim(ctx, owner, work.Lease, slices.Collect(maps.Keys(places)))
	jobs := make([]work.Job, len(rows))
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

// work makes one attempt for a row while it renews the lease.
func (q *Queue) work(ctx context.Context, owner string, row managed.Certificate) {
	st := q.cfg.Store
	hold := work.Hold{
		Extend:   func(ctx context.Context, lease time.Duration) error { return st.ExtendLease(ctx, row.ID, owner, lease) },
		Release:  func(ctx context.Context) error { return st.ReleaseLease(ctx, row.ID, owner) },
		Fail:     func(ctx context.Context, f managed.Failure) error { return st.FailManaged(ctx, row.ID, owner, f) },
		Failures: row.Failures, Planned: row.PlannedAt, NotAfter: row.NotAfter, CA: q.cfg.DirectoryURL,
		Failed: "no certificate yet", Now: q.cfg.Now,
		Log: q.cfg.Logger.With("mode", row.Mode, "names", row.Names, "certificate", row.ID),
	}
	a := attempt{queue: q, row: row, owner: owner}
	failed := hold.Run(ctx, a.run)
	if failed || a.bundle != nil {
		a.settle(ctx)
	}
}

// attempt is one attempt to obtain a claimed certificate.
type attempt struct {
	queue    *Queue
	row      managed.Certificate
	owner    string
	mode     Mode // nil: this instance does not serve it
	delivery Delivery
	bundle   *cert.Bundle // nil until it is stored
	err      error
}

func (a *attempt) run(ctx context.Context) error {
	a.bundle, a.err = a.obtain(ctx)
	return a.err
}

func (a *attempt) obtain(ctx context.Context) (*cert.Bundle, error) {
	var err error
	if a.mode = a.queue.cfg.Modes[a.row.Mode]; a.mode == nil {
		return nil, fmt.Errorf("mode %q is not served by this instance", a.row.Mode)
	}
	if a.delivery, err = a.mode.Delivery(ctx, a.row); err != nil {
		return nil, err
	}
	claim := &Claim{Certificate: a.row, cfg: a.queue.cfg, owner: a.owner}
	return claim.Obtain(ctx, a.delivery)
}

// settle reports the outcome to Config.Settled and to the mode.
func (a *attempt) settle(ctx context.Context) {
	ctx = context.WithoutCancel(ctx)
	o := managed.Outcome{Certificate: a.row, ClientName: a.delivery.ClientName, Err: a.err}
	if a.err == nil {
		o.Serial, o.NotAfter = a.bundle.Serial(), a.bundle.NotAfter()
	}
	if a.queue.cfg.Settled != nil {
		a.queue.cfg.Settled(ctx, o)
	}
	if a.mode != nil {
		a.mode.Settled(ctx, o)
	}
}
