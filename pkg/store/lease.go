package store

import (
	"context"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/store/sqldb"
)

// A lease is lost when another owner claims the row, when the row's specification
// changes and when the row is removed. It is not lost when its time ends: refusing a
// certificate that no other owner works on would cost another order. An owner is one
// run of one instance, with a random id generated at start.

const (
	nextDueSQL      = `SELECT due_at FROM managed WHERE due_at > 0 AND lease_until <= $1 ORDER BY due_at LIMIT 1`
	nextLeaseEndSQL = `SELECT lease_until FROM managed WHERE lease_until > 0 AND lease_until > $1 AND due_at > 0 ORDER BY lease_until LIMIT 1`
)

// ExtendLease extends the lease of a row, counted from now. It returns
// [managed.ErrLost] if the owner lost the row.
func (s *certificateStore) ExtendLease(ctx context.Context, id, owner string, lease time.Duration) error {
	err := s.ExecHeld(ctx, owner, `UPDATE managed SET lease_until = $3 WHERE id = $1 AND lease_owner = $2`,
		id, owner, sqldb.Millis(s.Now().Add(lease)))
	return s.Fail(err, "extend lease of %s", id)
}

// ReleaseLease ends the lease of a row and leaves the row due. It returns
// [managed.ErrLost] if the owner lost the row.
func (s *certificateStore) ReleaseLease(ctx context.Context, id, owner string) error {
	err := s.ExecHeld(ctx, owner, `UPDATE managed SET lease_owner = '', lease_until = 0 WHERE id = $1 AND lease_owner = $2`, id, owner)
	return s.Fail(err, "release lease of %s", id)
}

// FailManaged records that the owner's attempt failed, ends the lease and makes the row
// due at f.RetryAt. After a fault of this host the attempt still counts as a person's
// try, if it was one. The journal stays, so that the next attempt can continue the order.
// It returns [managed.ErrLost] if the owner lost the row.
func (s *certificateStore) FailManaged(ctx context.Context, id, owner string, f managed.Failure) error {
	err := s.ExecHeld(ctx, owner, `UPDATE managed SET failures = failures + CAST($6 AS BIGINT), last_error = $3, last_error_at = $4,
		due_at = $5, wait_until = $8, planned_at = CASE WHEN $9 THEN planned_at ELSE 0 END, failed_with = CASE WHEN failed_with = '`+eased+`' THEN '' ELSE CAST($7 AS TEXT) END,
		lease_owner = '', lease_until = 0, updated_at = $4 WHERE id = $1 AND lease_owner = $2`,
		id, owner, failureText(f), sqldb.Millis(s.Now()), sqldb.Millis(f.RetryAt), counted(f), f.With, sqldb.Millis(f.WaitUntil), f.Local)
	return s.Fail(err, "record failure of %s", id)
}

// SetDue makes a row due at another time; zero: never. A lease stays. It returns
// [managed.ErrNotFound] for a superseded row, which is never due.
func (s *certificateStore) SetDue(ctx context.Context, id string, at time.Time) error {
	n, err := s.Exec(ctx, `UPDATE managed SET due_at = $2, planned_at = 0, failed_with = '', updated_at = $3 WHERE id = $1 AND superseded_at = 0`, id, sqldb.Millis(at), sqldb.Millis(s.Now()))
	return s.Fail(sqldb.Require(n, err, managed.ErrNotFound), "set due time of %s", id)
}

// NextDue returns the earliest time at which [Store.ClaimDue] may find a row: a free
// row's due time, or the end of a lease. It may be in the past. It returns
// [managed.ErrNotFound] if no row will ever be due.
func (s *certificateStore) NextDue(ctx context.Context) (time.Time, error) {
	t, err := s.Earliest(ctx, nextDueSQL, nextLeaseEndSQL)
	return t, s.Fail(err, "next due certificate")
}
