package audit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"github.com/acmeproxy/acmeproxy/pkg/auth"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/policy"
	"github.com/acmeproxy/acmeproxy/pkg/trail"
)

// The actions that this package records by itself.
const (
	ActionAuthenticate = "authenticate"
	ActionRequest      = "request" // of a certificate
	ActionRevoke       = "revoke"  // a certificate
)

const (
	maxDetail = 1 << 10 // bytes of an entry's detail that are kept
	// What is kept of a refusal, which costs the client nothing.
	refusedDetail = 512 // bytes of its detail
	refusedNamed  = 10  // names
	refusedName   = 128 // bytes of each
	// writeTimeout bounds the write of an entry whose request is gone already.
	writeTimeout = 10 * time.Second
)

// Store stores entries and daily counters. Its methods may be used concurrently.
// Errors are those of package managed.
type Store interface {
	AppendAudit(ctx context.Context, entries ...trail.Entry) error
	TakeQuota(ctx context.Context, clientID string, day time.Time, quota int) (bool, error)
	ReturnQuota(ctx context.Context, clientID string, day time.Time) error
}

// Config is what New needs.
type Config struct {
	// Store keeps the entries and the daily counters. It must be set.
	Store Store
	// Logger is told of entries that could not be kept. It must be set.
	Logger *slog.Logger
	// DefaultQuota is how many requests a day a client may ask for through
	// grants without a quota; 0: any number.
	DefaultQuota int
	// Now tells the time; nil means time.Now. It must be safe for concurrent use.
	Now func() time.Time
}

// Log is the audit trail. It may be used concurrently.
type Log struct {
	store  Store
	logger *slog.Logger
	now    func() time.Time
	flood  flood
	quota  int // by default

	allowed *limiters
}

// New makes a Log.
func New(c Config) *Log {
	now := c.Now
	if now == nil {
		now = time.Now
	}
	return &Log{
		store: c.Store, logger: c.Logger, now: now, quota: c.DefaultQuota,
		allowed: &limiters{every: rate.Every(allowedEvery), burst: allowedBurst},
	}
}

// QuotaExceeded is a refusal until a time.
type QuotaExceeded struct {
	// Quota is how many requests a day the client has.
	Quota int
	// RetryAt is when the next day begins, in UTC.
	RetryAt time.Time
}

func (q *QuotaExceeded) Error() string {
	return fmt.Sprintf("daily quota of %d requests is used up; try again after %s, or ask the proxy's administrator for more"+
		" (daily_quota of the client's grant, which is --quota of clients add, or default-daily-quota of serve)",
		q.Quota, q.RetryAt.Format(time.RFC3339))
}

// TooSoon is a refusal until a time of what is allowed in itself. Nothing is
// recorded of it.
type TooSoon struct {
	// Reason says of what there was too much.
	Reason string
	// RetryAt is when to ask again.
	RetryAt time.Time
}

func (t *TooSoon) Error() string {
	return t.Reason + "; try again after " + t.RetryAt.UTC().Format(time.RFC3339)
}

// allowance bounds what one client is allowed at a time, and with it what is
// recorded of that: no entry that says "allowed" is ever dropped.
const (
	allowedEvery = time.Second
	allowedBurst = 1000
)

// Ask is a question about what a client wants to do.
type Ask struct {
	By     clients.Identity
	Action string // of the entry
	// Request is what the client wants. If it has neither mode nor names, the decision
	// is about the network alone from which the client calls.
	Request policy.Request
	// Own is about a certificate that the proxy keeps for the client: it needs no
	// grant.
	Own bool
	// Costs reports that the CA has work from it. It counts against the client's
	// quota and pace, and is recorded also if it is allowed.
	Costs bool
}

// isOfNetwork reports whether the question is about the network alone. A request
// with a mode and without names is not: it is denied.
func (a Ask) isOfNetwork() bool { return a.Request.Mode == "" && len(a.Request.Names) == 0 }

// Authorize decides whether the client may do what it asks for, counts it, and
// records the decision. The caller must not act when it returns an error: a
// *policy.Denied, a *QuotaExceeded, a *TooSoon if the client was allowed very many
// requests in a short time, or a fault of the store.
//
// Of what the gateway passes on, only refusals are recorded.
func (l *Log) Authorize(ctx context.Context, a Ask) error {
	err := l.decide(ctx, a)
	var denied *policy.Denied
	var exceeded *QuotaExceeded
	switch {
	case errors.As(err, &denied):
		l.refuse(ctx, a, denied.Ungranted, err)
		return err
	case errors.As(err, &exceeded):
		l.refuse(ctx, a, nil, err)
		return err
	case err != nil:
		return err
	}
	if !a.Costs || !a.isOfNetwork() && !a.Request.Mode.KeepsNames() {
		return nil
	}
	e := trail.By(a.By, a.Action)
	e.Mode, e.Names, e.Outcome = a.Request.Mode, a.Request.Names, trail.Allowed
	if err := l.write(ctx, e); err != nil {
		return fmt.Errorf("record the request: %w", err)
	}
	return nil
}

func (l *Log) decide(ctx context.Context, a Ask) error {
	var d policy.Decision
	var err error
	if a.isOfNetwork() {
		err = policy.AllowFrom(a.By)
	} else {
		d, err = policy.Decide(a.By, a.Request)
	}
	if a.Own {
		err = nil
	}
	if err != nil || !a.Costs {
		return err
	}
	if err := l.Pace(a.By); err != nil {
		return err
	}
	return l.takeQuota(ctx, a, d)
}

// refuse records a refusal. The gateway passes on today what it refused yesterday,
// so of its requests only names that no grant covers are recorded.
func (l *Log) refuse(ctx context.Context, a Ask, ungranted cert.Names, reason error) {
	e := trail.By(a.By, a.Action)
	e.Mode, e.Names, e.Outcome, e.Detail = a.Request.Mode, a.Request.Names, trail.Refused, reason.Error()
	if !a.Request.Mode.KeepsNames() {
		e.Names = ungranted
	}
	l.Record(ctx, e)
}

// Pace returns a *TooSoon if the client was allowed very many requests of any kind
// in a short time. It bounds what is recorded of what a client does.
func (l *Log) Pace(id clients.Identity) error {
	if now := l.now(); !l.allowed.allow(id.Client.ID, now) {
		return &TooSoon{Reason: "too many requests of this client in a short time", RetryAt: now.Add(allowedEvery)}
	}
	return nil
}

// takeQuota counts the request.
func (l *Log) takeQuota(ctx context.Context, a Ask, d policy.Decision) error {
	quota := l.quotaOf(a, d)
	if quota == 0 {
		return nil
	}
	now := l.now().UTC()
	ok, err := l.store.TakeQuota(ctx, a.By.Client.ID, now, quota)
	if err != nil {
		return fmt.Errorf("count the request: %w", err)
	}
	if !ok {
		return &QuotaExceeded{Quota: quota, RetryAt: now.Truncate(24 * time.Hour).Add(24 * time.Hour)}
	}
	return nil
}

// quotaOf returns the quota of a request, 0 for none. Revocations never count
// against the default: a client that has lost many keys at once must be able to
// say so.
func (l *Log) quotaOf(a Ask, d policy.Decision) int {
	if d.Quota == 0 && a.Request.Purpose != policy.Revocation && !a.isOfNetwork() {
		return l.quota
	}
	return d.Quota
}

// ReturnQuota takes an authorized request off the client's quota. The CA has no
// order of it, so it must not keep the client from asking again.
func (l *Log) ReturnQuota(ctx context.Context, a Ask) error {
	d, err := policy.Decide(a.By, a.Request)
	if err != nil || l.quotaOf(a, d) == 0 {
		return nil // it is not the client's any more, or was never counted
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
	defer cancel()
	return l.store.ReturnQuota(ctx, a.By.Client.ID, l.now().UTC())
}

// RefuseCaller records that a caller was not let in.
func (l *Log) RefuseCaller(ctx context.Context, e *auth.Error) {
	l.Record(ctx, trail.Entry{
		ClientID: e.ClientID, ClientName: e.ClientName, Addr: trail.Address(e.Addr),
		Action: ActionAuthenticate, Outcome: trail.Refused, Detail: string(e.Reason),
	})
}

// Refuse records that a stranger was refused. The reason must not hold a token.
func (l *Log) Refuse(ctx context.Context, addr netip.Addr, action, reason string) {
	l.Record(ctx, trail.Entry{Addr: trail.Address(addr), Action: action, Outcome: trail.Refused, Detail: reason})
}

// Record adds an entry about something that has been decided already; what
// cannot be kept is logged. Refusals are bounded for each client, and for all
// strangers together: what is beyond is counted, and logged once in a while.
func (l *Log) Record(ctx context.Context, e trail.Entry) {
	if e.Outcome == trail.Refused {
		keep, dropped := l.flood.admit(e.ClientID, l.now())
		if dropped > 0 {
			l.logger.Warn("too many refusals to record each", "dropped", dropped)
		}
		if !keep {
			return
		}
	}
	if err := l.write(ctx, e); err != nil {
		l.logger.Error("audit entry lost", "client", e.ClientName, "action", e.Action, "outcome", e.Outcome, "error", err)
	}
}

// write keeps an entry also when the request that it is about is gone:
// nobody avoids the trail by hanging up.
func (l *Log) write(ctx context.Context, e trail.Entry) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
	defer cancel()
	if e.At.IsZero() {
		e.At = l.now()
	}
	return l.store.AppendAudit(ctx, Trim(e))
}

// Trim cuts an entry to what is kept of one. It is for entries that the store
// writes together with what they are about.
func Trim(e trail.Entry) trail.Entry {
	e.Names = e.Names[:min(len(e.Names), cert.MaxNames)]
	e.Detail = cut(e.Detail, maxDetail)
	if e.Outcome != trail.Refused {
		return e
	}
	all := len(e.Names)
	e.Names = slices.Clone(e.Names[:min(all, refusedNamed)])
	for i, name := range e.Names {
		e.Names[i] = cut(name, refusedName)
	}
	e.Detail = cut(e.Detail, refusedDetail)
	if all > refusedNamed {
		e.Detail += fmt.Sprintf(" (the first %d of %d names are recorded)", refusedNamed, all)
	}
	return e
}

// cut shows where it left something out.
func cut(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
