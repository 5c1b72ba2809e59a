package store

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/store/sqldb"
)

const hookColumns = `managed_id, etag, due_at, lease_owner, lease_until, failures, last_error`

func scanHook(row sqldb.Scanner) (h managed.Deployment, err error) {
	err = row.Scan(&h.ManagedID, &h.ETag, sqldb.Time(&h.DueAt), &h.LeaseOwner, sqldb.Time(&h.LeaseUntil), &h.Failures, &h.LastError)
	return h, err
}

const (
	claimHooksSQL = `WITH due AS MATERIALIZED (SELECT managed_id FROM hooks_pending
		WHERE due_at > 0 AND due_at <= $1 AND lease_until <= $1 ORDER BY due_at LIMIT $2 %s)
		UPDATE hooks_pending SET lease_owner = $3, lease_until = $4
		WHERE managed_id IN (SELECT managed_id FROM due) RETURNING ` + hookColumns

	// The lease stays, so that the hook for a newer bundle does not start while
	// another one is running. The end of that one releases the row.
	requireHookSQL = `INSERT INTO hooks_pending (managed_id, etag, due_at, lease_owner, lease_until, leased_etag, failures, last_error)
		VALUES ($1, $2, $3, '', 0, '', 0, '') ON CONFLICT (managed_id) DO UPDATE SET
		etag = excluded.etag, due_at = excluded.due_at, failures = 0, last_error = ''`

	freeHookSQL = `UPDATE hooks_pending SET lease_owner = '', lease_until = 0 WHERE managed_id = $1 AND lease_owner = $2`

	hookForSQL          = `SELECT ` + hookColumns + ` FROM hooks_pending WHERE managed_id = $1`
	nextHookSQL         = `SELECT due_at FROM hooks_pending WHERE due_at > 0 AND lease_until <= $1 ORDER BY due_at LIMIT 1`
	nextHookLeaseEndSQL = `SELECT lease_until FROM hooks_pending WHERE lease_until > 0 AND lease_until > $1 AND due_at > 0 ORDER BY lease_until LIMIT 1`
)

// ClaimHooks leases up to limit (0: 100) due deployments without a lease to owner,
// earliest first. A hook runs at least once. It can run again if its owner died after
// it succeeded.
func (s *deploymentStore) ClaimHooks(ctx context.Context, owner string, lease time.Duration, limit int) ([]managed.Deployment, error) {
	if owner == "" {
		return nil, sqldb.ErrNoOwner
	}
	var claimed []managed.Deployment
	now := s.Now()
	err := s.Tx(ctx, func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, fmt.Sprintf(claimHooksSQL, s.SkipLocked()), sqldb.Millis(now), sqldb.PageSize(limit), owner, sqldb.Millis(now.Add(lease)))
		claimed, err = sqldb.Collect(rows, err, scanHook)
		return err
	})
	if err != nil {
		return nil, s.Fail(err, "claim hooks")
	}
	slices.SortFunc(claimed, func(a, b managed.Deployment) int {
		return cmp.Or(a.DueAt.Compare(b.DueAt), cmp.Compare(a.ManagedID, b.ManagedID))
	})
	return claimed, nil
}

// ExtendHook extends the lease of a deployment, as [Store.ExtendLease] does.
func (s *deploymentStore) ExtendHook(ctx context.Context, managedID, owner string, lease time.Duration) error {
	err := s.ExecHeld(ctx, owner, `UPDATE hooks_pending SET lease_until = $3 WHERE managed_id = $1 AND lease_owner = $2`,
		managedID, owner, sqldb.Millis(s.Now().Add(lease)))
	return s.Fail(err, "extend lease of the hook of %s", managedID)
}

// ReleaseHook releases a deployment, as [Store.ReleaseLease] does.
func (s *deploymentStore) ReleaseHook(ctx context.Context, managedID, owner string) error {
	return s.Fail(s.ExecHeld(ctx, owner, freeHookSQL, managedID, owner), "release hook of %s", managedID)
}

// CompleteHook records that the owner deployed the bundle etag. It returns
// [managed.ErrLost] if the owner lost the deployment, or if another bundle is pending.
// The deployment of that bundle may then begin at once.
func (s *deploymentStore) CompleteHook(ctx context.Context, managedID, owner, etag string) error {
	err := s.settleHook(ctx, managedID, owner, `DELETE FROM hooks_pending WHERE managed_id = $1 AND lease_owner = $2 AND etag = $3`,
		managedID, owner, etag)
	return s.Fail(err, "complete hook of %s", managedID)
}

// FailHook records that the owner's deployment of etag failed and makes it due at
// f.RetryAt. It returns [managed.ErrLost] as [Store.CompleteHook] does.
func (s *deploymentStore) FailHook(ctx context.Context, managedID, owner, etag string, f managed.Failure) error {
	err := s.settleHook(ctx, managedID, owner, `UPDATE hooks_pending SET failures = failures + CAST($6 AS BIGINT), last_error = $4,
		due_at = $5, lease_owner = '', lease_until = 0 WHERE managed_id = $1 AND lease_owner = $2 AND etag = $3`,
		managedID, owner, etag, sqldb.CleanText(f.Reason), sqldb.Millis(f.RetryAt), counted(f))
	return s.Fail(err, "record failed hook of %s", managedID)
}

// settleHook runs query, which changes the row only if the owner holds it and etag is
// still pending. If another bundle is pending, settleHook releases the owner's lease.
func (s *deploymentStore) settleHook(ctx context.Context, managedID, owner, query string, args ...any) error {
	if owner == "" {
		return sqldb.ErrNoOwner
	}
	lost := false
	err := s.Tx(ctx, func(tx *sql.Tx) error {
		n, err := sqldb.Affected(tx.ExecContext(ctx, query, args...))
		lost = n == 0
		if err == nil && lost {
			_, err = tx.ExecContext(ctx, freeHookSQL, managedID, owner)
		}
		return err
	})
	if err == nil && lost {
		return managed.ErrLost
	}
	return err
}

// RequireHook makes the deployment of etag pending and due now. It replaces a pending
// deployment of the managed certificate. It returns [managed.ErrNotFound] if the
// managed certificate does not exist.
func (s *deploymentStore) RequireHook(ctx context.Context, managedID, etag string) error {
	_, err := s.Exec(ctx, requireHookSQL, managedID, etag, sqldb.Millis(s.Now()))
	return s.Fail(err, "require hook of %s", managedID)
}

// PendingHookFor returns the pending deployment of a managed certificate, or
// [managed.ErrNotFound].
func (s *deploymentStore) PendingHookFor(ctx context.Context, managedID string) (managed.Deployment, error) {
	h, err := scanHook(s.Reader().QueryRowContext(ctx, hookForSQL, managedID))
	return h, s.Fail(err, "pending hook of %s", managedID)
}

// NextHook returns the next due time of a hook, as [Store.NextDue] does.
func (s *deploymentStore) NextHook(ctx context.Context) (time.Time, error) {
	t, err := s.Earliest(ctx, nextHookSQL, nextHookLeaseEndSQL)
	return t, s.Fail(err, "next hook")
}
