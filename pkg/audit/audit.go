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

// Authorize decides whether the client may have what it asks for, counts it
// against the daily quota, and records the decision. The caller must not act
// when it returns an error: a *policy.Denied, a *QuotaExceeded, a *TooSoon when
// there were very many in a short time, or a fault of the store.
func (l *Log) Authorize(ctx context.Context, id clients.Identity, r policy.Request) error {
	return l.authorize(ctx, id, r, question{ActionRequest, policy.Allow, true})
}

// Pace is a *TooSoon when the client was allowed very much in a short time, of
// whatever kind. What is recorded of what a client does needs it.
func (l *Log) Pace(id clients.Identity) error {
	if now := l.now(); !l.allowed.allow(id.Client.ID, now) {
		return &TooSoon{Reason: "too many requests of this client in a short time", RetryAt: now.Add(allowedEvery)}
	}
	return nil
}

// AuthorizeAgain is Authorize for what costs no order and was recorded before,
// such as asking again for a certificate that is kept already: it takes nothing
// from the quota, and records refusals only.
func (l *Log) AuthorizeAgain(ctx context.Context, id clients.Identity, r policy.Request) error {
	return l.authorize(ctx, id, r, question{ActionRequest, policy.Allow, false})
}

// AuthorizeFrom decides whether the client may do this from where it calls, and
// records a refusal. It is for what needs no grant, and takes nothing from the
// quota. The error is a *policy.Denied.
func (l *Log) AuthorizeFrom(ctx context.Context, id clients.Identity, action string) error {
	err := policy.AllowFrom(id)
	if err != nil {
		l.Record(ctx, trail.Entry{
			ClientID: id.Client.ID, ClientName: id.Client.Name, Addr: address(id.Addr), Action: action, Outcome: trail.Refused, Detail: err.Error(),
		})
	}
	return err
}

// AuthorizeRevocation is Authorize for revoking a certificate of these names.
// One that the proxy keeps for the client (mode agent) is its own, whatever its
// grants are today; of another (mode gateway) it must have proven to hold the
// key, and its grants must cover the names.
func (l *Log) AuthorizeRevocation(ctx context.Context, id clients.Identity, r policy.Request) error {
	allow := policy.Allow
	if r.Mode.OwnsNames() {
		allow = func(clients.Identity, policy.Request) error { return nil }
	}
	return l.authorize(ctx, policy.ForRevocation(id), r, question{ActionRevoke, allow, true})
}

// question is what to decide about a request.
type question struct {
	action string
	allow  func(clients.Identity, policy.Request) error
	costs  bool // the CA something, and the client some of its quota
}

func (l *Log) authorize(ctx context.Context, id clients.Identity, r policy.Request, q question) error {
	entry := trail.Entry{
		ClientID:   id.Client.ID,
		ClientName: id.Client.Name,
		Addr:       address(id.Addr),
		Action:     q.action,
		Mode:       r.Mode,
		Names:      r.Names,
		Outcome:    trail.Allowed,
	}
	err := q.allow(id, r)
	if err == nil && q.costs {
		if err := l.Pace(id); err != nil {
			return err
		}
		err = l.takeQuota(ctx, id, r, q)
	}
	if err != nil {
		var denied *policy.Denied
		var exceeded *QuotaExceeded
		switch {
		case errors.As(err, &denied):
			entry.Names = refusedNames(r, denied)
		case errors.As(err, &exceeded):
			entry.Names = refusedNames(r, &policy.Denied{})
		default:
			return err
		}
		entry.Outcome, entry.Detail = trail.Refused, err.Error()
		l.Record(ctx, entry)
		return err
	}
	if !r.Mode.KeepsNames() || !q.costs {
		return nil
	}
	if err := l.write(ctx, entry); err != nil {
		return fmt.Errorf("record the request: %w", err)
	}
	return nil
}

// refusedNames are the names to write down for a refusal. What the gateway
// passes on today must not be told by what it refused yesterday.
func refusedNames(r policy.Request, d *policy.Denied) []string {
	if !r.Mode.KeepsNames() {
		return d.Ungranted
	}
	return r.Names
}

// takeQuota counts the request, unless a grant without quota covers it and there
// is no default. Revocations never count against the default: a client that has
// lost many keys at once must be able to say so.
func (l *Log) takeQuota(ctx context.Context, id clients.Identity, r policy.Request, q question) error {
	quota := l.quotaFor(id, r, q.action)
	if quota == 0 {
		return nil
	}
	now := l.now().UTC()
	ok, err := l.store.TakeQuota(ctx, id.Client.ID, now, quota)
	if err != nil {
		return fmt.Errorf("count the request: %w", err)
	}
	if !ok {
		return &QuotaExceeded{Quota: quota, RetryAt: now.Truncate(24 * time.Hour).Add(24 * time.Hour)}
	}
	return nil
}

func (l *Log) quotaFor(id clients.Identity, r policy.Request, action string) int {
	quota := policy.QuotaFor(id, r)
	if quota == 0 && action == ActionRequest {
		return l.quota
	}
	return quota
}

// ReturnQuota takes an authorized request off the client's quota: the CA has not
// got an order of it, so it must not keep the client from asking again.
func (l *Log) ReturnQuota(ctx context.Context, id clients.Identity, r policy.Request) error {
	if l.quotaFor(id, r, ActionRequest) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
	defer cancel()
	return l.store.ReturnQuota(ctx, id.Client.ID, l.now().UTC())
}

// RefuseCaller records that a caller was not let in.
func (l *Log) RefuseCaller(ctx context.Context, e *auth.Error) {
	l.Record(ctx, trail.Entry{
		ClientID:   e.ClientID,
		ClientName: e.ClientName,
		Addr:       address(e.Addr),
		Action:     ActionAuthenticate,
		Outcome:    trail.Refused,
		Detail:     string(e.Reason),
	})
}

// Refuse records that a stranger was refused. The reason must not hold a token.
func (l *Log) Refuse(ctx context.Context, addr netip.Addr, action, reason string) {
	l.Record(ctx, trail.Entry{Addr: address(addr), Action: action, Outcome: trail.Refused, Detail: reason})
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

// address is empty for the administrator's unix socket.
func address(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}
