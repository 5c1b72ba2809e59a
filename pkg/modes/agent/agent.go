// Package agent implements certificate-agent mode: the proxy obtains and renews
// certificates for a client, seals key and chain to the client's age recipients, and
// stores only that ciphertext. The client fetches it at any time; it may be away for
// months.
//
// A plaintext key exists only in memory, and no proxy identity can open a stored
// bundle. During an order its key is in the journal, sealed to the proxy's identity,
// so that a crash costs no certificate. The transaction that stores the bundle
// deletes the journal entry.
package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/audit"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/policy"
	"github.com/acmeproxy/acmeproxy/pkg/renewal"
	"github.com/acmeproxy/acmeproxy/pkg/trail"
)

// Store stores the certificates of clients. Its methods may be used concurrently.
// Errors are those of package managed.
type Store interface {
	Register(ctx context.Context, r managed.Registration) (stored managed.Certificate, created bool, err error)
	ManagedByID(ctx context.Context, id string) (managed.Certificate, error)
	ManagedByNames(ctx context.Context, clientID string, mode clients.Mode, names []string) (managed.Certificate, error)
	ListManaged(ctx context.Context, clientID string, mode clients.Mode, afterID string, limit int) ([]managed.Certificate, error)
	HasRoom(ctx context.Context, clientID string, limit int) (bool, error)
	BundleFor(ctx context.Context, managedID string) (managed.Bundle, error)
	AskedAt(ctx context.Context, clientID string, names []string) (time.Time, error)
	AskAgain(ctx context.Context, id string, askedAt time.Time, limit managed.Pause) error
	TryNow(ctx context.Context, id string, try managed.Try) (managed.Certificate, error)
	RevokeManaged(ctx context.Context, id, serial string, dueAt time.Time, dead []byte) error
	DeleteManaged(ctx context.Context, id string) error
	DeleteUnshared(ctx context.Context, id string) error
	Hosts(ctx context.Context, clientID string) (int, error)
	DeleteRevoked(ctx context.Context, id, serial string) error
	WantRevocation(ctx context.Context, w managed.WantedRevocation) error
	WantedRevocations(ctx context.Context, limit int) ([]managed.WantedRevocation, error)
	PostponeRevocation(ctx context.Context, managedID, serial string, dueAt time.Time) error
	EndRevocation(ctx context.Context, managedID, serial string) error
	ClientByID(ctx context.Context, id string) (clients.Client, error)
}

// Config holds the settings and dependencies of the mode.
type Config struct {
	Store Store
	Audit *audit.Log
	// Check returns a *cert.FieldError for a request that can never be issued.
	Check func(ctx context.Context, req cert.Request) error
	CA    CA     // revokes certificates
	Wake  func() // called when a certificate became due
	// Tell, if set, notifies other instances of a change of a certificate. They call
	// News.
	Tell func(certID string)
	// Every returns the interval of looking for changes by other instances, in case a
	// notification is lost. If nil, or if it returns 0, there are no other instances.
	Every func() time.Duration
	// Waiters holds the callers that wait for a certificate. A process shares it among
	// its modes with earlier and later settings. If nil, the mode has its own.
	Waiters *Waiters
	// Limit is the number of managed certificates that a client may have; 0: any number.
	Limit  int
	Logger *slog.Logger
	Now    func() time.Time
}

// Agent implements the mode. It is safe for concurrent use.
type Agent struct {
	cfg     Config
	waiters *Waiters
}

// New returns the mode.
func New(cfg Config) *Agent {
	if cfg.Tell == nil {
		cfg.Tell = func(string) {}
	}
	if cfg.Every == nil {
		cfg.Every = func() time.Duration { return 0 }
	}
	if cfg.Waiters == nil {
		cfg.Waiters = new(Waiters)
	}
	return &Agent{cfg: cfg, waiters: cfg.Waiters}
}

// News wakes the callers of this instance that wait for a certificate, after an
// attempt by another instance.
func (a *Agent) News(certID string) { a.waiters.wake(certID) }

// Forgotten wakes the callers of all instances that wait for a certificate, after the
// administrator deleted its row.
func (a *Agent) Forgotten(certID string) { a.wakeAll(certID) }

// wakeAll wakes the callers of all instances that wait for a certificate.
func (a *Agent) wakeAll(certID string) {
	a.waiters.wake(certID)
	a.cfg.Tell(certID)
}

// Register registers a managed certificate. Registering the same names again is
// allowed, and costs nothing unless the last attempt failed: then it begins the next
// one, if the client may ask for that now. Another key type, profile or CSR makes the
// certificate due now. Errors: *cert.FieldError, *policy.Denied, *audit.QuotaExceeded,
// managed.ErrOwned.
func (a *Agent) Register(ctx context.Context, id clients.Identity, req cert.Request) (m managed.Certificate, created bool, err error) {
	if len(id.Client.Recipients) == 0 {
		return m, false, &cert.FieldError{Field: "recipients", Err: errors.New("this client has none, so nothing could be sealed to it; ask the proxy's administrator for an enrolment token (acmeproxy clients token), or to name one with --recipient")}
	}
	if err := a.cfg.Check(ctx, req); err != nil {
		return m, false, err
	}
	ask := policy.Request{Mode: clients.ModeAgent, Names: req.Names, KeyType: req.KeyType, Profile: req.Profile}
	if err := a.authorize(ctx, id, ask, req); err != nil {
		return m, false, err
	}
	m, created, err = a.cfg.Store.Register(ctx, managed.Registration{
		Certificate: managed.Certificate{
			ClientID: id.Client.ID,
			Mode:     clients.ModeAgent,
			Names:    req.Names,
			KeyType:  string(req.KeyType),
			CSR:      req.CSR,
			Profile:  req.Profile,
		},
		Pause: renewal.AskPause, Tries: renewal.PersonTries, Limit: a.cfg.Limit, Holds: policy.Holds, Audit: audit.Superseded,
	})
	switch {
	case errors.Is(err, managed.ErrOwned):
		a.record(ctx, id, req.Names, trail.Refused, "a name belongs to another client")
		return m, false, err
	case errors.Is(err, managed.ErrTooMany):
		return m, false, a.refuseMore(ctx, id, req.Names)
	case err != nil:
		return m, false, err
	}
	if !created && m.IsFailing() {
		m = a.tryAgain(ctx, id, m)
	}
	a.cfg.Wake()
	return m, created, nil
}

// refuseMore records and returns a refusal: the client has reached its limit of
// certificates.
func (a *Agent) refuseMore(ctx context.Context, id clients.Identity, names cert.Names) error {
	denied := &policy.Denied{Field: "certificates", Reason: fmt.Sprintf("client %q has as many managed certificates as it may have, %d; delete some that it does not need, or ask the proxy's administrator to raise max-client-certificates", id.Client.Name, a.cfg.Limit)}
	a.record(ctx, id, names, trail.Refused, denied.Error())
	return denied
}

// authorize decides about a request. It takes quota only if the request costs an
// order.
func (a *Agent) authorize(ctx context.Context, id clients.Identity, ask policy.Request, req cert.Request) error {
	have, err := a.cfg.Store.ManagedByNames(ctx, id.Client.ID, clients.ModeAgent, req.Names)
	same := have.KeyType == string(req.KeyType) && string(have.CSR) == string(req.CSR) && have.Profile == req.Profile
	if err == nil && same && have.SupersededAt.IsZero() {
		return a.cfg.Audit.Authorize(ctx, audit.Ask{By: id, Action: audit.ActionRequest, Request: ask})
	}
	if err != nil && !errors.Is(err, managed.ErrNotFound) {
		return err
	}
	if err != nil && a.cfg.Limit > 0 { // an early check that takes no quota; Register decides
		room, err := a.cfg.Store.HasRoom(ctx, id.Client.ID, a.cfg.Limit)
		if err != nil {
			return err
		}
		if !room {
			return a.refuseMore(ctx, id, req.Names)
		}
	}
	return a.cfg.Audit.Authorize(ctx, audit.Ask{By: id, Action: audit.ActionRequest, Request: ask, Costs: true})
}

// Get returns one of the client's own certificates. Errors: managed.ErrNotFound,
// *policy.Denied for another client's.
func (a *Agent) Get(ctx context.Context, id clients.Identity, certID string) (managed.Certificate, error) {
	m, err := a.cfg.Store.ManagedByID(ctx, certID)
	if err != nil {
		return managed.Certificate{}, err
	}
	if m.ClientID != id.Client.ID || m.Mode != clients.ModeAgent {
		a.record(ctx, id, nil, trail.Refused, "certificate "+certID+" belongs to another client")
		return managed.Certificate{}, &policy.Denied{Field: "id", Reason: "this certificate belongs to another client"}
	}
	return m, nil
}

// List returns a page of the client's own certificates.
func (a *Agent) List(ctx context.Context, id clients.Identity, after string, limit int) ([]managed.Certificate, error) {
	return a.cfg.Store.ListManaged(ctx, id.Client.ID, clients.ModeAgent, after, limit)
}

// Bundle returns the ciphertext. If the client has it already (etag), or none exists
// yet, Bundle waits for a new one or a failed attempt, but no longer than wait. It
// returns managed.ErrNotFound if no ciphertext exists.
func (a *Agent) Bundle(ctx context.Context, id clients.Identity, certID, etag string, wait time.Duration) (managed.Bundle, error) {
	timeout := time.NewTimer(wait)
	defer timeout.Stop()
	for woken := false; ; {
		wake, leave := a.waiters.join(certID) // before reading, so that no change is missed
		b, m, err := a.bundle(ctx, id, certID)
		none := errors.Is(err, managed.ErrNotFound) && !errors.Is(err, errGone)
		old := err == nil && b.ETag == etag
		if wait <= 0 || woken || !none && !old || none && a.isResting(m, wait) {
			leave()
			return b, err
		}
		var look <-chan time.Time
		if every := a.cfg.Every(); every > 0 {
			look = time.After(every)
		}
		select {
		case <-wake:
			woken = true
			leave()
		case <-look:
			leave()
		case <-timeout.C:
			leave()
			return b, err
		case <-ctx.Done(): // the client disconnected, or the proxy stops
			leave()
			return b, err
		}
	}
}

// errGone wraps managed.ErrNotFound if the certificate, not its bundle, is missing.
var errGone = fmt.Errorf("no such certificate: %w", managed.ErrNotFound)

// isResting reports whether the last attempt failed, and no other one begins within that
// time. A caller that began to wait just after the failure must not wait for nothing.
func (a *Agent) isResting(m managed.Certificate, within time.Duration) bool {
	now := a.cfg.Now()
	return m.IsFailing() && !m.IsAttempted(now) && !m.IsDue(now.Add(within))
}

func (a *Agent) bundle(ctx context.Context, id clients.Identity, certID string) (managed.Bundle, managed.Certificate, error) {
	m, err := a.Get(ctx, id, certID)
	if errors.Is(err, managed.ErrNotFound) {
		err = errGone
	}
	if err == nil && (!m.RevokedAt.IsZero() || !m.SupersededAt.IsZero()) {
		// The certificate was revoked and will be replaced, or one of its names now
		// belongs to another client.
		err = managed.ErrNotFound
	}
	if err != nil {
		return managed.Bundle{}, m, err
	}
	b, err := a.cfg.Store.BundleFor(ctx, certID)
	return b, m, err
}

// Hosts returns the number of the client's enrolled hosts, which share its certificates.
func (a *Agent) Hosts(ctx context.Context, id clients.Identity) (int, error) {
	return a.cfg.Store.Hosts(ctx, id.Client.ID)
}

// Delete deletes one of the client's own certificates and its bundle. All hosts of the
// client have the same certificates: unless shared is set, Delete returns
// managed.ErrShared, and nothing changes, if the client has several.
func (a *Agent) Delete(ctx context.Context, id clients.Identity, certID string, shared bool) error {
	m, err := a.Get(ctx, id, certID)
	if err != nil {
		return err
	}
	remove := a.cfg.Store.DeleteUnshared
	if shared {
		remove = a.cfg.Store.DeleteManaged
	}
	if err := remove(ctx, m.ID); err != nil {
		return err
	}
	a.record(ctx, id, m.Names, trail.Done, "no longer managed")
	a.wakeAll(m.ID)
	return nil
}

// Delivery implements renewal.Mode. It returns an error if the client may not have
// the certificate any more. The bundle is sealed to all recipients that the client
// has when it is stored.
func (a *Agent) Delivery(ctx context.Context, m managed.Certificate) (renewal.Delivery, error) {
	client, err := a.cfg.Store.ClientByID(ctx, m.ClientID)
	if err != nil {
		return renewal.Delivery{}, err
	}
	d := renewal.Delivery{ClientName: client.Name}
	if client.Disabled {
		return d, fmt.Errorf("client %q is disabled; enable it, or remove it", client.Name)
	}
	ask := policy.Request{Mode: clients.ModeAgent, Names: m.Names, KeyType: cert.KeyType(m.KeyType), Profile: m.Profile, Purpose: policy.Renewal}
	if _, err := policy.Decide(clients.Identity{Client: client}, ask); err != nil {
		return d, err
	}
	if len(client.Recipients) == 0 { // the bundle could not be sealed
		return d, renewal.NoRecipients(client.Name)
	}
	return d, nil
}

// Settled implements renewal.Mode. It wakes the callers of all instances that wait for
// the certificate.
func (a *Agent) Settled(_ context.Context, o managed.Outcome) { a.wakeAll(o.ID) }

func (a *Agent) record(ctx context.Context, id clients.Identity, names []string, outcome, detail string) {
	e := trail.By(id, actionCertificate)
	e.Mode, e.Names, e.Outcome, e.Detail = clients.ModeAgent, names, outcome, detail
	a.cfg.Audit.Record(ctx, e)
}

// actionCertificate is the action of entries about changes to a certificate.
const actionCertificate = "certificate"
