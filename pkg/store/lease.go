package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/managed"
)

// A lease is lost when another owner takes the row, when the row's
// specification changes and when the row is removed, not by the passing of time
// alone: to refuse a certificate that no one else began to work on would cost
// another order. An owner names one run of one instance (a random id made at
// start), never a host.

const (
	nextDueSQL      = `SELECT due_at FROM managed WHERE due_at > 0 AND lease_until <= $1 ORDER BY due_at LIMIT 1`
	nextLeaseEndSQL = `SELECT lease_until FROM managed WHERE lease_until > 0 AND lease_until > $1 AND due_at > 0 ORDER BY lease_until LIMIT 1`
)

var errNoOwner = errors.New("lease owner is empty: give the id of this run")

// ExtendLease keeps a row for another lease from now; [managed.ErrLost] if it is not
// the owner's any more.
func (s *Store) ExtendLease(ctx context.Context, id, owner string, lease time.Duration) error {
	err := s.held(ctx, owner, `UPDATE managed SET lease_until = $3 WHERE id = $1 AND lease_owner = $2`,
		id, owner, millis(s.now().Add(lease)))
	return s.fail(err, "extend lease of %s", id)
}

// ReleaseLease gives a row back, as due as it was; [managed.ErrLost] if it is not the
// owner's any more.
func (s *Store) ReleaseLease(ctx context.Context, id, owner string) error {
	err := s.held(ctx, owner, `UPDATE managed SET lease_owner = '', lease_until = 0 WHERE id = $1 AND lease_owner = $2`, id, owner)
	return s.fail(err, "release lease of %s", id)
}

// FreeLeases gives back all rows and hooks that anybody holds, as due as they
// were. It is for an instance that is alone with its database and has just
// started: whoever held them is dead, and waiting for the leases to end would
// only lose time.
func (s *Store) FreeLeases(ctx context.Context) error {
	err := s.tx(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE managed SET lease_owner = '', lease_until = 0 WHERE lease_until > 0`)
		if err == nil {
			_, err = tx.ExecContext(ctx, `UPDATE hooks_pending SET lease_owner = '', lease_until = 0 WHERE lease_until > 0`)
		}
		return err
	})
	return s.fail(err, "free leases")
}

// FailManaged records that the owner's attempt failed, frees the lease and
// makes the row due at f.RetryAt. The order journal stays, so that the next
// attempt can go on with it. [managed.ErrLost] if the row is not the owner's any more.
func (s *Store) FailManaged(ctx context.Context, id, owner string, f managed.Failure) error {
	err := s.held(ctx, owner, `UPDATE managed SET failures = failures + CAST($6 AS BIGINT), last_error = $3, last_error_at = $4,
		due_at = $5, failed_with = CASE WHEN failed_with = '`+eased+`' THEN '' ELSE CAST($7 AS TEXT) END,
		lease_owner = '', lease_until = 0, updated_at = $4 WHERE id = $1 AND lease_owner = $2`,
		id, owner, failureText(f), millis(s.now()), millis(f.RetryAt), counted(f), f.With)
	return s.fail(err, "record failure of %s", id)
}

// held runs one update that touches a row only while owner holds it.
func (s *Store) held(ctx context.Context, owner, query string, args ...any) error {
	if owner == "" {
		return errNoOwner
	}
	n, err := s.exec(ctx, query, args...)
	return must(n, err, managed.ErrLost)
}

// SetDue makes a row due at another time; zero: never. A lease stays. A superseded
// row is never due: [managed.ErrNotFound].
func (s *Store) SetDue(ctx context.Context, id string, at time.Time) error {
	n, err := s.exec(ctx, `UPDATE managed SET due_at = $2, failed_with = '', updated_at = $3 WHERE id = $1 AND superseded_at = 0`, id, millis(at), millis(s.now()))
	return s.fail(must(n, err, managed.ErrNotFound), "set due time of %s", id)
}

// NextDue returns the earliest moment at which [Store.ClaimDue] may have
// something to give: a free row's due time, or the end of a lease. It may have
// passed already. [managed.ErrNotFound] when nothing will ever be due.
func (s *Store) NextDue(ctx context.Context) (time.Time, error) {
	t, err := s.earliest(ctx, nextDueSQL, nextLeaseEndSQL)
	return t, s.fail(err, "next due certificate")
}

// earliest returns the smaller of what the queries give, each one time at most.
func (s *Store) earliest(ctx context.Context, queries ...string) (time.Time, error) {
	var first time.Time
	for _, query := range queries {
		var t time.Time
		err := s.read.QueryRowContext(ctx, query, millis(s.now())).Scan(moment{&t})
		if errors.Is(err, sql.ErrNoRows) {
			continue
		}
		if err != nil {
			return time.Time{}, err
		}
		if first.IsZero() || t.Before(first) {
			first = t
		}
	}
	if first.IsZero() {
		return time.Time{}, managed.ErrNotFound
	}
	return first, nil
}
