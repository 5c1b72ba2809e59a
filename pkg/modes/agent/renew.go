package agent

import (
	"context"
	"errors"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/audit"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/policy"
	"github.com/acmeproxy/acmeproxy/pkg/renewal"
)

// tryAgain begins an attempt at a failing row, if the client may ask for one now. The
// row shows when the next one is, and why the last one failed.
func (a *Agent) tryAgain(ctx context.Context, id clients.Identity, m managed.Certificate) managed.Certificate {
	if now := a.cfg.Now(); m.IsAttempted(now) || m.IsDue(now) {
		return m
	}
	tried, err := a.tryNow(ctx, id, m)
	var soon *audit.TooSoon
	var quota *audit.QuotaExceeded
	switch {
	case err == nil:
		return tried
	case !errors.As(err, &soon) && !errors.As(err, &quota):
		a.cfg.Logger.Warn("cannot try a failing certificate again; it is tried at its time", "certificate", m.ID, "error", err)
	}
	return m
}

// RenewNow makes one of the client's own certificates due at any age. Nothing changes
// if it is due already, or if work on it is in progress. The returned row is from
// before the attempt. Errors: *cert.FieldError, *policy.Denied, *audit.QuotaExceeded,
// *audit.TooSoon, managed.ErrNotFound.
func (a *Agent) RenewNow(ctx context.Context, id clients.Identity, certID string) (managed.Certificate, error) {
	m, err := a.Get(ctx, id, certID)
	if err != nil {
		return m, err
	}
	if awaitsCSR(m) {
		return m, &cert.FieldError{Field: "csr", Err: errors.New("the key of the present one is compromised; ask for the certificate with a CSR of another key")}
	}
	if !m.SupersededAt.IsZero() {
		return m, &policy.Denied{Field: "names", Reason: "a name of this certificate passed to another client; ask for the certificate again, or ask the proxy's administrator"}
	}
	now := a.cfg.Now()
	switch {
	case m.IsAttempted(now) || m.IsDue(now):
		return m, a.cfg.Audit.Authorize(ctx, audit.Ask{By: id, Action: audit.ActionRequest, Request: requestFor(m)})
	case m.IsFailing():
		m, err = a.tryNow(ctx, id, m)
	default:
		m, err = a.askAgain(ctx, id, m, now)
	}
	if err == nil {
		a.cfg.Wake()
	}
	return m, err
}

// requestFor returns the request that a row stands for.
func requestFor(m managed.Certificate) policy.Request {
	return policy.Request{Mode: clients.ModeAgent, Names: m.Names, KeyType: cert.KeyType(m.KeyType), Profile: m.Profile}
}

// tryNow makes a failing row due. It takes quota only if the attempt may begin.
func (a *Agent) tryNow(ctx context.Context, id clients.Identity, m managed.Certificate) (managed.Certificate, error) {
	try := managed.Try{Tries: renewal.PersonTries, Check: true}
	_, err := a.cfg.Store.TryNow(ctx, m.ID, try)
	if err == nil {
		err = a.cfg.Audit.Authorize(ctx, audit.Ask{By: id, Action: audit.ActionRequest, Request: requestFor(m), Costs: true})
	}
	if err == nil {
		try.Check = false
		m, err = a.cfg.Store.TryNow(ctx, m.ID, try)
	}
	var early *managed.NotNow
	if errors.As(err, &early) {
		return m, &audit.TooSoon{Reason: early.Because(), RetryAt: early.At}
	}
	return m, err
}

// askAgain makes a row due that does not fail.
func (a *Agent) askAgain(ctx context.Context, id clients.Identity, m managed.Certificate, now time.Time) (managed.Certificate, error) {
	asked, err := a.checkPause(ctx, id, m, now)
	if err != nil {
		return m, err
	}
	if err := a.cfg.Audit.Authorize(ctx, audit.Ask{By: id, Action: audit.ActionRequest, Request: requestFor(m), Costs: true}); err != nil {
		return m, err
	}
	err = a.cfg.Store.AskAgain(ctx, m.ID, asked, renewal.AskPause)
	if errors.Is(err, managed.ErrStale) { // another request of the client was faster
		return m, tooSoon(a.cfg.Now().Add(renewal.AskPause.Every))
	}
	if err != nil {
		return m, err
	}
	return a.cfg.Store.ManagedByID(ctx, m.ID)
}

func tooSoon(retryAt time.Time) error {
	return &audit.TooSoon{Reason: "the last attempt at this certificate was a short while ago", RetryAt: retryAt}
}

// checkPause returns the time of the client's last request. It returns an error if a
// further order now could let one client use up the CA's limits. It does not record
// that refusal, because the client may have the certificate. A host that enrolled
// after the last attempt need not wait, once, because it cannot open the old bundle.
func (a *Agent) checkPause(ctx context.Context, id clients.Identity, m managed.Certificate, now time.Time) (asked time.Time, err error) {
	asked, err = a.cfg.Store.AskedAt(ctx, id.Client.ID, m.Names)
	if err != nil {
		return asked, err
	}
	last, next, err := a.nextAttempt(ctx, m, asked)
	if err != nil {
		return asked, err
	}
	if enrolledSince := id.Via == clients.TLSKey && !id.Since.Before(last); !enrolledSince && now.Before(next) {
		return asked, tooSoon(next)
	}
	return asked, nil
}

// nextAttempt returns the earliest time at which a client's request may cost an order.
// It counts from the last certificate or the last request, whichever is later: a row
// that was deleted and registered again has no certificate yet.
func (a *Agent) nextAttempt(ctx context.Context, m managed.Certificate, asked time.Time) (last, next time.Time, err error) {
	b, err := a.cfg.Store.BundleFor(ctx, m.ID)
	if err != nil && !errors.Is(err, managed.ErrNotFound) {
		return last, next, err
	}
	last = later(ignoreFuture(b.CreatedAt, a.cfg.Now()), ignoreFuture(asked, a.cfg.Now()))
	return last, last.Add(renewal.AskPause.Every), nil
}

// ignoreFuture returns at, or the zero time if at is in the future, because a wrong
// clock wrote it.
func ignoreFuture(at, now time.Time) time.Time {
	if at.After(now.Add(time.Minute)) {
		return time.Time{}
	}
	return at
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}
