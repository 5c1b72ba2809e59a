package remote

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/work"
)

// The attempts in gateway mode that a person may cause while a certificate fails. Each
// may cost the CA an order. In agent mode the proxy counts. A start may be a crash
// loop: it leaves one attempt an hour to people.
var (
	personTries = managed.Tries{Hourly: 4, Daily: 24}
	startTries  = managed.Tries{Hourly: 3, Daily: 12}
)

// countTry counts an attempt in gateway mode that begins now, or returns a
// *managed.NotNow.
func (k *Kept) countTry(tries managed.Tries, now time.Time) error {
	if k.WaitUntil.After(now) {
		early := &managed.NotNow{Reason: managed.CAWaits, At: later(k.WaitUntil, k.NextAttempt)}
		if k.ProxyAsked {
			early.Reason = managed.ProxyWaits
		}
		return early
	}
	var recent []time.Time
	for _, t := range k.Tries {
		if !t.After(now) && now.Sub(t) < 24*time.Hour {
			recent = append(recent, t)
		}
	}
	at, most, per := tries.Next(recent, now)
	if at.After(now) {
		if k.NextAttempt.After(now) && k.NextAttempt.Before(at) {
			at = k.NextAttempt
		}
		return &managed.NotNow{Reason: managed.TriesUsed, Most: most, Per: per, At: at}
	}
	k.Tries, k.counted = append(recent, now.UTC().Truncate(time.Second)), true
	return k.save() // before the attempt: a crash loop must not repeat it for ever
}

// returnTry undoes countTry, because the attempt did not reach the proxy.
func (k *Kept) returnTry() {
	if k.counted {
		k.Tries, k.counted = k.Tries[:len(k.Tries)-1], false
	}
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// Retry attempts one of this host's certificates now if it fails or is due, or if renew
// is set. If the proxy has a newer certificate than the disk, that is enough for renew.
// Retry also runs a hook that failed. It returns a *managed.NotNow, or the proxy's
// refusal, if too many attempts failed. It reports whether anything changed.
func (g *Getter) Retry(ctx context.Context, listed Kept, renew bool) (k *Kept, changed bool, err error) {
	unlock, err := listed.lock(ctx)
	if err != nil {
		return &listed, false, err
	}
	defer unlock()
	if k, err = readNamed(&listed); err != nil {
		return &listed, false, err
	}
	if err := errors.Join(listed.Conflict(), k.Ready()); err != nil {
		return k, false, err
	}
	serial, hookDue, good := k.Serial, k.HookDue, k.LastError == "" && g.usable(k) != nil
	if err = g.retry(ctx, k, renew); err != nil {
		if good && isStatus(err, http.StatusTooManyRequests) {
			return k, false, err // it needs no other one now
		}
		return k, false, g.keepFailure(k, err)
	}
	k.Failures, k.LastError, k.NextAttempt, k.WaitUntil, k.Transient = 0, "", time.Time{}, time.Time{}, false
	return k, k.Serial != serial || hookDue && !k.HookDue, k.save()
}

func (g *Getter) retry(ctx context.Context, k *Kept, renew bool) error {
	if k.Mode.IsUnattended() {
		opts := commandPull(renew)
		opts.newerDoes = true
		return g.pull(ctx, k, opts)
	}
	if have := g.usable(k); have != nil && !renew {
		return g.install(ctx, k, have, "")
	}
	if err := g.countPerson(k); err != nil {
		return err
	}
	return g.obtain(ctx, k)
}

// countPerson counts an attempt of a person at a failing certificate of gateway mode, or
// at other names of a certificate.
func (g *Getter) countPerson(k *Kept) (err error) {
	if k.replaced {
		if k.proposed, err = k.proposedKept(); err != nil {
			return err
		}
		k = k.proposed
	} else if k.LastError == "" {
		return nil
	}
	err = k.countTry(personTries, g.now())
	if k.LastError != "" && errors.As(err, new(*managed.NotNow)) {
		return fmt.Errorf("%s; %w", k.LastError, err)
	}
	return err
}

// keepFailure stores a failure, as the daemon does, unless nothing was attempted.
func (g *Getter) keepFailure(k *Kept, failure error) error {
	if errors.As(failure, new(*managed.NotNow)) {
		return failure
	}
	now := g.now()
	k.LastError = failure.Error()
	if !k.mayHaveCost(failure) {
		k.returnTry()
	} else if !k.Mode.IsUnattended() && !k.keepPlan(now, failure) {
		k.setDelay(now, failure)
	}
	if err := k.save(); err != nil {
		return errors.Join(failure, err)
	}
	return failure
}

// noOrderError is a fault of this host that prevented an order.
type noOrderError struct{ error }

func (e *noOrderError) Unwrap() error { return e.error }

// keepPlan reports whether the time of the next attempt stays, because a try in gateway
// mode ended before its order. It undoes the try.
func (k *Kept) keepPlan(now time.Time, failure error) bool {
	if !k.counted || !errors.As(failure, new(*noOrderError)) {
		return false
	}
	k.returnTry()
	return k.NextAttempt.After(now)
}

// setDelay sets the delay after a failure in gateway mode. A failed try keeps the earlier
// time of the next attempt and does not lengthen later delays.
func (k *Kept) setDelay(now time.Time, failure error) {
	var planned time.Time
	if k.counted {
		planned = k.NextAttempt
	}
	retryAt := work.RetryAt(now, k.Failures, k.NotAfter, failure)
	waitUntil := work.WaitUntil(now, retryAt, failure)
	retryAt, tried := work.AfterTry(now, k.Failures, planned, retryAt, waitUntil)
	if !tried && !work.IsLocal(failure) {
		k.Failures++
	}
	k.NextAttempt, k.WaitUntil = retryAt.UTC(), waitUntil.UTC()
	k.ProxyAsked = !waitUntil.IsZero() && !isOfCA(failure)
}

// Matching returns the certificates of this host that the arguments mean: all without
// an argument, or else those that Select returns. A name that is no certificate of its
// own means all that cover it.
func (s *State) Matching(given []string) ([]Kept, error) {
	all, err := s.Kept()
	if err != nil || len(given) == 0 {
		return all, err
	}
	rows := make([]*Kept, len(all))
	for i := range all {
		rows[i] = &all[i]
	}
	found, err := selectFrom(rows, given, func(name string) []*Kept { return coveringRows(rows, name) })
	return copies(found), err
}

func copies(rows []*Kept) []Kept {
	all := make([]Kept, len(rows))
	for i, k := range rows {
		all[i] = *k
	}
	return all
}

// tryNow makes the daemon attempt all certificates now, because a person started it or
// changed its settings. Delays that the CA or the proxy asked for stay. Only the
// goroutine of run may call it.
func (d *daemon) tryNow() { d.tryAll = true }

// allowTry reports whether a turn may begin before k.NextAttempt, because a person
// acted. It runs the hook if that is due: it needs neither the proxy nor the CA.
func (d *daemon) allowTry(ctx context.Context, k *Kept) (bool, error) {
	if k.HookDue && isOnDisk(k) {
		if err := d.getter.runHook(ctx, k); err != nil && (k.hookFailed == nil || errors.As(err, new(*fs.PathError))) {
			return false, err
		}
	}
	if k.Mode.IsUnattended() || d.getter.usable(k) != nil {
		return true, nil
	}
	err := k.countTry(startTries, time.Now())
	var early *managed.NotNow
	if !errors.As(err, &early) {
		return err == nil, err
	}
	if !time.Now().Before(k.NextAttempt) && !cert.IsParked(early.At, time.Time{}, time.Now()) {
		k.NextAttempt = early.At.UTC().Truncate(time.Second) // a crash loop
		k.LastError = cmp.Or(k.LastError, early.Error())
		if err := k.save(); err != nil {
			return false, err
		}
	}
	d.Logger.Warn("not fresh", "names", k.Names.String(), "mode", k.Mode, "error", early, "next_attempt", k.NextAttempt)
	return false, nil
}
