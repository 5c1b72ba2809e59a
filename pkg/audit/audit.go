package audit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/acmeproxy/acmeproxy/pkg/auth"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/policy"
	"github.com/acmeproxy/acmeproxy/pkg/printable"
	"github.com/acmeproxy/acmeproxy/pkg/trail"
)

// The actions of entries that this package creates.
const (
	ActionAuthenticate = "authenticate"
	ActionRequest      = "request" // of a certificate
	ActionRevoke       = "revoke"  // a certificate
)

const (
	maxDetail = 1 << 10 // bytes of an entry's detail
	// Refusals have smaller limits, because they cost the client nothing.
	refusedDetail = 512 // bytes of the detail
	refusedNamed  = 10  // names
	refusedName   = 128 // bytes of each name
	// writeTimeout limits the write of an entry, also after its request has ended.
	writeTimeout = 10 * time.Second
)

// Store stores entries and daily counters. Its methods may be used concurrently.
// Errors are those of package managed.
type Store interface {
	AppendAudit(ctx context.Context, entries ...trail.Entry) error
	// AppendAuditLazily may wait for another write, to store both at once. A failure of the
	// host may undo it until the next write of another method.
	AppendAuditLazily(ctx context.Context, entries ...trail.Entry) error
	// TakeQuota stores the entries with the count, if the request is within quota.
	TakeQuota(ctx context.Context, clientID string, day time.Time, quota int, entries ...trail.Entry) (bool, error)
	ReturnQuota(ctx context.Context, clientID string, day time.Time) error
	QuotaTaken(ctx context.Context, clientID string, day time.Time) (int, error)
}

// Config holds the dependencies and limits of a Log.
type Config struct {
	// Store stores the entries and the daily counters. It must be set.
	Store Store
	// Logger reports entries that could not be stored. It must be set.
	Logger *slog.Logger
	// DefaultQuota is the number of requests per day that a client may make through
	// grants without a quota. If 0, there is no limit. SetDefaultQuota changes it.
	DefaultQuota int
	// Now returns the time. If nil, it is time.Now. It must be safe for concurrent
	// use.
	Now func() time.Time
}

// Log is the audit trail. It may be used concurrently.
type Log struct {
	store  Store
	logger *slog.Logger
	now    func() time.Time
	flood  flood
	quota  atomic.Int64 // Config.DefaultQuota

	allowed *limiters
}

// New creates a Log.
func New(c Config) *Log {
	now := c.Now
	if now == nil {
		now = time.Now
	}
	l := &Log{
		store: c.Store, logger: c.Logger, now: now,
		allowed: &limiters{every: rate.Every(allowedEvery), burst: allowedBurst},
	}
	l.SetDefaultQuota(c.DefaultQuota)
	return l
}

// SetDefaultQuota replaces Config.DefaultQuota, also for requests of today.
func (l *Log) SetDefaultQuota(n int) { l.quota.Store(int64(n)) }

// QuotaExceeded reports that the client's daily quota is used up.
type QuotaExceeded struct {
	// Quota is the number of requests per day.
	Quota int
	// RetryAt is the beginning of the next day, in UTC.
	RetryAt time.Time
}

func (q *QuotaExceeded) Error() string {
	return fmt.Sprintf("daily quota of %d requests is used up; try again after %s, or ask the proxy's administrator for more"+
		" (daily_quota of the client's grant, which is --quota of clients add, or default-daily-quota of serve)",
		q.Quota, printable.Time(q.RetryAt))
}

// TooSoon reports that an allowed request must be retried later. It is not recorded.
type TooSoon struct {
	// Reason names the limit that was exceeded.
	Reason string
	// RetryAt is the earliest time of a retry.
	RetryAt time.Time
}

func (t *TooSoon) Error() string {
	return t.Reason + "; try again after " + printable.Time(t.RetryAt)
}

// The limits of allowed requests of one client. They also limit the entries about
// them, because no entry with the outcome "allowed" is ever dropped.
const (
	allowedEvery = time.Second
	allowedBurst = 1000
)

// Now returns the time by the trail's clock.
func (l *Log) Now() time.Time { return l.now() }

// Ask describes an action that a client wants to take.
type Ask struct {
	By     clients.Identity
	Action string // of the entry
	// Request is the client's request. If it has neither mode nor names, only the
	// client's network is checked.
	Request policy.Request
	// Own marks an action that needs no grant: one on a certificate that the proxy
	// manages for the client, or one that other rules than grants have allowed.
	Own bool
	// Costs marks an action that causes work at the CA. It counts against the client's
	// quota and rate limit, and is also recorded if it is allowed. A policy.Proof, whose
	// order is one of the client's own account, counts against the rate limit only.
	Costs bool
	// Unmetered marks an action of a caller that the store has no quota for: its share is
	// limited by its rate alone.
	Unmetered bool
	// Announces marks an action that a later one with Costs follows. It is refused if the
	// quota is used up already, but counts nothing.
	Announces bool
	// At is the time of the request, from Now. Its UTC day is the one whose quota the
	// request counts against. Zero means now, and such a request cannot be returned.
	At time.Time
}

// isOfNetwork reports whether only the network is checked. A request with a mode and
// without names is denied instead.
func (a Ask) isOfNetwork() bool { return a.Request.Mode == "" && len(a.Request.Names) == 0 }

// Authorize decides whether the client may take the action, counts it, and records
// the decision. The caller must not act if it returns an error: a *policy.Denied, a
// *QuotaExceeded, a *TooSoon if the client exceeded its rate limit, or a fault of
// the store.
//
// For gateway requests, only refusals are recorded.
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
	}
	return err
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
	if err == nil && a.Announces {
		return l.checkQuota(ctx, a, d)
	}
	if err != nil || !a.Costs {
		return err
	}
	if err := l.Pace(a.By); err != nil {
		return err
	}
	return l.allow(ctx, a, d)
}

// refuse records a refusal. A gateway request that is refused today may be allowed
// tomorrow, so only its names that no grant covers are recorded.
func (l *Log) refuse(ctx context.Context, a Ask, ungranted cert.Names, reason error) {
	e := trail.By(a.By, a.Action)
	e.Mode, e.Names, e.Outcome, e.Detail = a.Request.Mode, a.Request.Names, trail.Refused, reason.Error()
	if !a.Request.Mode.KeepsNames() {
		e.Names = ungranted
	}
	l.Record(ctx, e)
}

// Pace returns a *TooSoon if the client exceeded its rate limit for allowed requests
// of all kinds. The limit bounds the number of entries about one client.
func (l *Log) Pace(id clients.Identity) error {
	if now := l.now(); !l.allowed.allow(id.Client.ID, now) {
		return &TooSoon{Reason: "too many requests of this client in a short time", RetryAt: now.Add(allowedEvery)}
	}
	return nil
}

// checkQuota returns a *QuotaExceeded if the client's quota is used up.
func (l *Log) checkQuota(ctx context.Context, a Ask, d policy.Decision) error {
	quota := l.quotaOf(a, d)
	if quota == 0 {
		return nil
	}
	now := l.now().UTC()
	taken, err := l.store.QuotaTaken(ctx, a.By.Client.ID, now)
	if err != nil {
		return fmt.Errorf("read the client's quota: %w", err)
	}
	if taken >= quota {
		return exceeded(quota, now)
	}
	return nil
}

func exceeded(quota int, now time.Time) *QuotaExceeded {
	return &QuotaExceeded{Quota: quota, RetryAt: now.Truncate(24 * time.Hour).Add(24 * time.Hour)}
}

// allow counts the request against the client's quota and records it, in one write.
func (l *Log) allow(ctx context.Context, a Ask, d policy.Decision) error {
	var entries []trail.Entry
	if a.isOfNetwork() || a.Request.Mode.KeepsNames() {
		e := trail.By(a.By, a.Action)
		e.At, e.Mode, e.Names, e.Outcome = l.now(), a.Request.Mode, a.Request.Names, trail.Allowed
		entries = append(entries, Trim(e))
	}
	quota := l.quotaOf(a, d)
	if quota == 0 {
		return l.recordAllowed(ctx, entries)
	}
	now := a.At.UTC()
	if now.IsZero() {
		now = l.now().UTC()
	}
	ok, err := l.store.TakeQuota(ctx, a.By.Client.ID, now, quota, entries...)
	if err != nil {
		return fmt.Errorf("count the request: %w", err)
	}
	if !ok {
		return exceeded(quota, now)
	}
	return nil
}

func (l *Log) recordAllowed(ctx context.Context, entries []trail.Entry) error {
	if len(entries) == 0 {
		return nil
	}
	if err := l.store.AppendAudit(ctx, entries...); err != nil {
		return fmt.Errorf("record the request: %w", err)
	}
	return nil
}

// quotaOf returns the quota of a request, or 0 if there is no limit. Revocations
// never count against the default, because a client that lost many keys at once must
// be able to revoke all of them.
func (l *Log) quotaOf(a Ask, d policy.Decision) int {
	if a.Unmetered || a.Request.Purpose == policy.Proof {
		return 0
	}
	if d.Quota == 0 && a.Request.Purpose != policy.Revocation && !a.isOfNetwork() {
		return int(l.quota.Load())
	}
	return d.Quota
}

// ReturnQuota returns an authorized request to the client's quota. It is for a
// request with a time that led to no order at the CA, so that the client can retry.
func (l *Log) ReturnQuota(ctx context.Context, a Ask) error {
	d, err := policy.Decide(a.By, a.Request)
	if err != nil || l.quotaOf(a, d) == 0 || a.At.IsZero() {
		return nil // it is no longer granted, or was never counted
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
	defer cancel()
	return l.store.ReturnQuota(ctx, a.By.Client.ID, a.At.UTC())
}

// RefuseCaller records that authentication of a caller failed.
func (l *Log) RefuseCaller(ctx context.Context, e *auth.Error) {
	l.Record(ctx, trail.Entry{
		ClientID: e.ClientID, ClientName: e.ClientName, Addr: trail.Address(e.Addr),
		Action: ActionAuthenticate, Outcome: trail.Refused, Detail: string(e.Reason),
	})
}

// Refuse records that an unknown caller was refused. The reason must not contain a
// token.
func (l *Log) Refuse(ctx context.Context, addr netip.Addr, action, reason string) {
	l.Record(ctx, trail.Entry{Addr: trail.Address(addr), Action: action, Outcome: trail.Refused, Detail: reason})
}

// Record adds an entry about a decision or an event. A failure to store it is
// logged. Refusals are rate limited for each client, and for all unknown callers
// together. The number of dropped entries is logged now and then.
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
	l.record(ctx, e, l.store.AppendAudit)
}

// RecordLazily is Record for an entry that is no refusal, and that another write of the
// same event follows soon: the store may write both at once.
func (l *Log) RecordLazily(ctx context.Context, e trail.Entry) {
	l.record(ctx, e, l.store.AppendAuditLazily)
}

func (l *Log) record(ctx context.Context, e trail.Entry, write func(context.Context, ...trail.Entry) error) {
	if err := l.write(ctx, e, write); err != nil {
		l.logger.Error("audit entry lost", "client", e.ClientName, "action", e.Action, "outcome", e.Outcome, "error", err)
	}
}

// write stores an entry even if the context of its request has ended. So a client
// cannot avoid the audit trail by closing the connection.
func (l *Log) write(ctx context.Context, e trail.Entry, write func(context.Context, ...trail.Entry) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
	defer cancel()
	if e.At.IsZero() {
		e.At = l.now()
	}
	return write(ctx, Trim(e))
}

// Trim shortens an entry to the limits of the audit trail. It is for entries that
// the store writes in the transaction of the change itself.
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

// cut shortens s to most bytes and marks the omission with an ellipsis.
func cut(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
