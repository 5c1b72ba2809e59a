package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/store/sqldb"
)

// triesLife is the longest period that limits tries.
const triesLife = 24 * time.Hour

const (
	failingSQL = `SELECT id FROM managed WHERE last_error_at > 0 AND id > $1 ORDER BY id LIMIT $2`

	// An attempt may have begun since the row was read.
	tryNowSQL = `UPDATE managed SET due_at = $2, planned_at = $4, failed_with = '', updated_at = $3
		WHERE id = $1 AND due_at > $3 AND lease_until <= $3 AND superseded_at = 0 RETURNING ` + managedColumns

	tryHooksSQL     = `UPDATE hooks_pending SET due_at = $1 WHERE due_at > $1`
	laterHooksSQL   = `SELECT managed_id FROM hooks_pending WHERE due_at > $1 ORDER BY due_at LIMIT 1`
	failingPageSize = 500
)

// TryNow makes a failing row due now, because a person acted, and counts that. The row's
// PlannedAt then holds the time of its own next attempt. It
// returns a *[managed.NotNow] if the CA asked to wait, or if the client's tries for
// these names are used up. A row that is not failing becomes due as well if try has a
// Pause, which then limits it.
//
// A row that is due, that is worked on, or that is never due is returned unchanged, and
// not counted. TryNow returns [managed.ErrNotFound] for an unknown or superseded row.
func (s *certificateStore) TryNow(ctx context.Context, id string, try managed.Try) (m managed.Certificate, err error) {
	err = s.Tx(ctx, func(tx *sql.Tx) (err error) {
		m, _, err = s.tryNow(ctx, tx, id, try, s.Now())
		return err
	})
	var later *managed.NotNow
	if errors.As(err, &later) {
		return m, later
	}
	return m, s.Fail(err, "try %s now", id)
}

// tryNow makes the row due at a time, which is now or later, and reports whether it
// changed the row.
func (s *certificateStore) tryNow(ctx context.Context, tx *sql.Tx, id string, try managed.Try, at time.Time) (m managed.Certificate, changed bool, err error) {
	if m, err = scanManaged(tx.QueryRowContext(ctx, managedByIDSQL, id)); err != nil {
		return m, false, err
	}
	if err := lockClient(ctx, tx, m.ClientID); err != nil {
		return m, false, err
	}
	if m, err = scanManaged(tx.QueryRowContext(ctx, managedByIDSQL, id)); err != nil {
		return m, false, err
	}
	now := s.Now()
	switch {
	case !m.SupersededAt.IsZero():
		return m, false, managed.ErrNotFound
	case m.DueAt.IsZero() || m.IsAttempted(now) || m.IsDue(now) || !m.DueAt.After(at):
		return m, false, nil
	case !m.IsFailing() && try.Pause.Every <= 0:
		return m, false, nil
	}
	hash := namesHash(m.Names)
	p, err := readPause(ctx, tx, m.ClientID, hash)
	if err == nil {
		err = p.allow(m, try, now)
	}
	if errors.As(err, new(*managed.NotNow)) {
		// The proxy's own rows have no client to lock: a concurrent try may have been the last.
		again, readErr := scanManaged(tx.QueryRowContext(ctx, managedByIDSQL, id))
		if readErr != nil || again.IsDue(now) || again.IsAttempted(now) {
			return again, false, readErr
		}
	}
	if err != nil || try.Check {
		return m, false, err
	}
	due, err := scanManaged(tx.QueryRowContext(ctx, tryNowSQL, id, sqldb.Millis(at), sqldb.Millis(now), sqldb.Millis(planned(m))))
	if errors.Is(err, sql.ErrNoRows) {
		m, err = scanManaged(tx.QueryRowContext(ctx, managedByIDSQL, id))
		return m, false, err
	}
	if err == nil {
		err = s.savePause(ctx, tx, m.ClientID, hash, p)
	}
	return due, true, err
}

// CountTry counts an attempt at a row's names that owner has begun, as [Store.TryNow]
// counts those of people, but changes nothing else. It returns a *[managed.NotNow], and
// does not count it, if the tries are used up, and [managed.ErrLost] if owner does not
// hold the row.
func (s *certificateStore) CountTry(ctx context.Context, owner, id string, tries managed.Tries) error {
	if owner == "" {
		return sqldb.ErrNoOwner
	}
	err := s.Tx(ctx, func(tx *sql.Tx) error {
		m, err := scanManaged(tx.QueryRowContext(ctx, managedByIDSQL, id))
		if errors.Is(err, sql.ErrNoRows) || err == nil && m.LeaseOwner != owner {
			return managed.ErrLost
		}
		if err == nil {
			err = lockClient(ctx, tx, m.ClientID)
		}
		if err != nil {
			return err
		}
		hash := namesHash(m.Names)
		p, err := readPause(ctx, tx, m.ClientID, hash)
		if err == nil {
			err = p.count(tries, s.Now())
		}
		if err != nil {
			return err
		}
		return s.savePause(ctx, tx, m.ClientID, hash, p)
	})
	var later *managed.NotNow
	if errors.As(err, &later) {
		return later
	}
	return s.Fail(err, "count an attempt at %s", id)
}

// planned returns the time of the program's own next attempt at a failing row, which a
// failed try must not delay.
func planned(m managed.Certificate) time.Time {
	switch {
	case !m.IsFailing():
		return time.Time{}
	case !m.PlannedAt.IsZero():
		return m.PlannedAt // an earlier try has not begun yet
	}
	return m.DueAt
}

// allow counts an attempt at a row, or returns why it may not begin now.
func (p *pause) allow(m managed.Certificate, try managed.Try, now time.Time) error {
	if m.IsFailing() {
		p.setFailures(m)
		return p.try(try.Tries, now)
	}
	if due := p.ask(try.Pause, now); due.After(now) {
		return &managed.NotNow{Reason: managed.OrdersUsed, At: due}
	}
	return nil
}

// try counts an attempt at failing names that begins now, or returns why it may not.
func (p *pause) try(tries managed.Tries, now time.Time) error {
	if p.waitUntil.After(now) && !cert.IsParked(p.waitUntil, time.Time{}, now) {
		at := p.waitUntil
		if p.retryAt.After(at) && !cert.IsParked(p.retryAt, time.Time{}, now) {
			at = p.retryAt // such attempts are spread
		}
		return &managed.NotNow{Reason: managed.CAWaits, At: at}
	}
	return p.count(tries, now)
}

// count counts an attempt that begins now, or returns why it may not.
func (p *pause) count(tries managed.Tries, now time.Time) error {
	p.tries = slices.DeleteFunc(p.tries, func(t time.Time) bool { return t.After(now) || now.Sub(t) >= triesLife })
	at, most, per := tries.Next(p.tries, now)
	if at.After(now) {
		if p.retryAt.After(now) && p.retryAt.Before(at) {
			at = p.retryAt // the next attempt of the program's own
		}
		return &managed.NotNow{Reason: managed.TriesUsed, Most: most, Per: per, At: at}
	}
	p.tries = append(p.tries, now)
	return nil
}

// triesEnd returns when the last try does not count any more.
func (p *pause) triesEnd() time.Time {
	if len(p.tries) == 0 {
		return time.Time{}
	}
	return p.tries[len(p.tries)-1].Add(triesLife)
}

// TryFailing makes the failing rows of all clients due, as [Store.TryNow] does for one,
// and returns their number. Fifty are due now, less those of the last fifty minutes, the
// others one each minute, after those of earlier calls. Rows that may not be tried yet
// are left alone.
func (s *certificateStore) TryFailing(ctx context.Context, tries managed.Tries) (n int, err error) {
	for after := ""; ; {
		rows, err := s.Reader().QueryContext(ctx, failingSQL, after, failingPageSize)
		ids, err := sqldb.Collect(rows, err, func(row sqldb.Scanner) (id string, err error) { return id, row.Scan(&id) })
		if err != nil {
			return n, s.Fail(err, "find failing certificates")
		}
		for _, id := range ids {
			after = id
			tried, err := s.tryFailing(ctx, id, tries)
			if errors.Is(err, errPlanFull) {
				return n, nil
			}
			if err != nil {
				return n, s.Fail(err, "try %s now", id)
			}
			if tried {
				n++
			}
		}
		if len(ids) < failingPageSize {
			return n, nil
		}
	}
}

// errPlanFull means that a row's turn would come after its own next attempt.
var errPlanFull = errors.New("the plan is full")

// tryFailing makes one row due when its turn comes. It returns errPlanFull if that is
// too late for this row and for all others.
func (s *certificateStore) tryFailing(ctx context.Context, id string, tries managed.Tries) (tried bool, err error) {
	err = s.Tx(ctx, func(tx *sql.Tx) error {
		turns, err := lockTurns(ctx, tx) // before the client: other transactions lock no turns
		if err != nil {
			return err
		}
		at, ok := turns.take(s.Now())
		if !ok {
			return errPlanFull
		}
		if _, tried, err = s.tryNow(ctx, tx, id, managed.Try{Tries: tries}, at); err != nil || !tried {
			return err
		}
		return turns.save(ctx, tx)
	})
	var later *managed.NotNow
	if errors.As(err, &later) || errors.Is(err, sql.ErrNoRows) || errors.Is(err, managed.ErrNotFound) {
		return false, nil // or it was deleted meanwhile
	}
	return tried, err
}

// TryHooks makes all deployments that wait for their next attempt due now, and returns
// their number. They cost the CA nothing, so nothing limits that.
func (s *deploymentStore) TryHooks(ctx context.Context) (int64, error) {
	now := sqldb.Millis(s.Now())
	found, err := s.Finds(ctx, laterHooksSQL, now)
	if err != nil || !found {
		return 0, s.Fail(err, "find failing hooks")
	}
	n, err := s.Exec(ctx, tryHooksSQL, now)
	return n, s.Fail(err, "try hooks now")
}

// momentList scans a column that joinMoments wrote.
type momentList struct{ to *[]time.Time }

// Scan implements [sql.Scanner].
func (l momentList) Scan(v any) error {
	s, ok := v.(string)
	if !ok {
		return fmt.Errorf("list column holds %T, not text", v)
	}
	*l.to = nil
	for field := range strings.FieldsSeq(s) {
		ms, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return fmt.Errorf("list of times: %w", err)
		}
		*l.to = append(*l.to, time.UnixMilli(ms).UTC())
	}
	return nil
}

// joinMoments returns the column's form of a list of times: milliseconds, separated by
// spaces.
func joinMoments(times []time.Time) string {
	texts := make([]string, len(times))
	for i, t := range times {
		texts[i] = strconv.FormatInt(sqldb.Millis(t), 10)
	}
	return strings.Join(texts, " ")
}
