package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/store/sqldb"
)

// pause is the stored state of a client's requests for a set of names.
type pause struct {
	askedAt     time.Time // when the last request was made
	paidUntil   time.Time // each granted request adds Every to it
	failures    int       // of a row that was deleted
	lastError   string
	lastErrorAt time.Time
	retryAt     time.Time   // of the program's own
	waitUntil   time.Time   // for the CA
	tries       []time.Time // attempts that people caused while the names failed, oldest first
}

// isFailing reports whether the last attempt at the names failed.
func (p *pause) isFailing() bool { return !p.lastErrorAt.IsZero() }

const pauseSQL = `SELECT asked_at, paid_until, failures, last_error, last_error_at, retry_at, wait_until, tries FROM pauses
	WHERE client_id = $1 AND names_hash = $2`

func readPause(ctx context.Context, q sqldb.Querier, clientID, hash string) (p pause, err error) {
	err = q.QueryRowContext(ctx, pauseSQL, clientID, hash).Scan(sqldb.Time(&p.askedAt), sqldb.Time(&p.paidUntil),
		&p.failures, &p.lastError, sqldb.Time(&p.lastErrorAt), sqldb.Time(&p.retryAt), sqldb.Time(&p.waitUntil), momentList{&p.tries})
	if errors.Is(err, sql.ErrNoRows) {
		return pause{}, nil
	}
	return p, err
}

// ask counts a request at now and returns when it may be due.
func (p *pause) ask(limit managed.Pause, now time.Time) (due time.Time) {
	due = now
	if limit.Every > 0 {
		// Both ends are bounded: the clock may have been wrong when it was written.
		most := time.Duration(limit.Spare) * limit.Every
		from := p.paidUntil
		if from.Before(now) {
			from = now
		}
		if end := now.Add(most + limit.Every); from.After(end) {
			from = end
		}
		if free := from.Add(-most); free.After(now) {
			due = free
		}
		p.paidUntil = from.Add(limit.Every)
		if end := now.Add(most + limit.Every); p.paidUntil.After(end) {
			p.paidUntil = end
		}
		p.askedAt = now
	}
	return due
}

// pauseLife is how long a pause is stored at least, and pauseError how many bytes of an
// error's text are stored.
const (
	pauseLife  = 2 * time.Hour
	pauseError = 512
)

const purgePausesSQL = `DELETE FROM pauses WHERE (client_id, names_hash) IN
	(SELECT client_id, names_hash FROM pauses WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2)`

// savePause stores p and removes a few expired pauses: more than are added, so that the
// table shrinks again, but so few that a request does not wait for it.
func (s *certificateStore) savePause(ctx context.Context, tx *sql.Tx, clientID, hash string, p pause) error {
	const purged = 10
	now := s.Now()
	expires := now.Add(pauseLife)
	for _, until := range []time.Time{p.paidUntil, p.waitUntil, p.triesEnd()} {
		if until.After(expires) && !cert.IsParked(until, time.Time{}, now) {
			expires = until
		}
	}
	if err := purgePauses(ctx, tx, now, purged); err != nil {
		return err
	}
	text := sqldb.CleanText(p.lastError)
	_, err := tx.ExecContext(ctx, `INSERT INTO pauses (client_id, names_hash, asked_at, paid_until, failures, last_error, last_error_at, retry_at, expires_at, wait_until, tries)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT (client_id, names_hash) DO UPDATE SET asked_at = excluded.asked_at,
		paid_until = excluded.paid_until, failures = excluded.failures, last_error = excluded.last_error,
		last_error_at = excluded.last_error_at, retry_at = excluded.retry_at, expires_at = excluded.expires_at,
		wait_until = excluded.wait_until, tries = excluded.tries`,
		clientID, hash, sqldb.Millis(p.askedAt), sqldb.Millis(p.paidUntil), p.failures, sqldb.CleanText(text[:min(len(text), pauseError)]),
		sqldb.Millis(p.lastErrorAt), sqldb.Millis(p.retryAt), sqldb.Millis(expires), sqldb.Millis(p.waitUntil), joinMoments(p.tries))
	return err
}

func purgePauses(ctx context.Context, tx *sql.Tx, now time.Time, most int) error {
	_, err := tx.ExecContext(ctx, purgePausesSQL, sqldb.Millis(now), most)
	return err
}

// setFailures replaces the failures by those of a row.
func (p *pause) setFailures(m managed.Certificate) {
	p.failures, p.lastError, p.lastErrorAt, p.retryAt, p.waitUntil = m.Failures, m.LastError, m.LastErrorAt, m.DueAt, m.WaitUntil
	if !m.PlannedAt.IsZero() {
		p.retryAt = m.PlannedAt
	}
}

// keepFailures stores the failures of a row that is being deleted, instead of older
// ones.
func (s *certificateStore) keepFailures(ctx context.Context, tx *sql.Tx, m managed.Certificate) error {
	hash := namesHash(m.Names)
	p, err := readPause(ctx, tx, m.ClientID, hash)
	if err != nil || !m.IsFailing() && !p.isFailing() {
		return err
	}
	p.setFailures(m)
	return s.savePause(ctx, tx, m.ClientID, hash, p)
}

// AskedAt returns the time of a client's last request for these names, or the zero time
// if it is not stored.
func (s *certificateStore) AskedAt(ctx context.Context, clientID string, names []string) (time.Time, error) {
	p, err := readPause(ctx, s.Reader(), clientID, namesHash(names))
	return p.askedAt, s.Fail(err, "read pause")
}

// AskAgain makes a row due now at its client's request, and counts the request. It
// returns [managed.ErrStale], and nothing changes, if another request for these names
// was made after askedAt, which [Store.AskedAt] returned. It returns
// [managed.ErrNotFound] if the row was deleted or superseded.
func (s *certificateStore) AskAgain(ctx context.Context, id string, askedAt time.Time, limit managed.Pause) error {
	err := s.Tx(ctx, func(tx *sql.Tx) error {
		m, err := scanManaged(tx.QueryRowContext(ctx, managedByIDSQL, id))
		if err != nil {
			return err
		}
		if err := lockClient(ctx, tx, m.ClientID); err != nil {
			return err
		}
		hash := namesHash(m.Names)
		p, err := readPause(ctx, tx, m.ClientID, hash)
		if err != nil {
			return err
		}
		if p.askedAt.After(askedAt) {
			return managed.ErrStale
		}
		now := s.Now()
		p.ask(limit, now)
		if err := s.savePause(ctx, tx, m.ClientID, hash, p); err != nil {
			return err
		}
		n, err := sqldb.Affected(tx.ExecContext(ctx, `UPDATE managed SET due_at = $2, updated_at = $2
			WHERE id = $1 AND superseded_at = 0`, id, sqldb.Millis(now)))
		return sqldb.Require(n, err, managed.ErrNotFound)
	})
	return s.Fail(err, "ask again for %s", id)
}
