package store

import (
	"context"
	"strings"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/store/sqldb"
)

// plainEnd separates both texts of a failure in their column. Rows of older programs
// have only the administrator's text.
const plainEnd = "\x1f"

// failureText joins both texts of a failure.
func failureText(f managed.Failure) string {
	clean := func(s string) string { return strings.ReplaceAll(sqldb.CleanText(s), plainEnd, "\uFFFD") }
	if f.Plain == "" {
		return clean(f.Reason)
	}
	return clean(f.Plain) + plainEnd + clean(f.Reason)
}

// counted returns how much a failure adds to the count of a row's failures.
func counted(f managed.Failure) int {
	if f.Local || f.Tried {
		return 0
	}
	return 1
}

// splitFailure returns what failureText joined.
func splitFailure(s string) (plain, reason string) {
	if plain, reason, ok := strings.Cut(s, plainEnd); ok {
		return plain, reason
	}
	return "", s
}

// eased is the failed_with of a row whose delay was ended. If its next attempt fails,
// the next delay is not ended early, because the row itself may be the cause.
const eased = "eased"

const (
	// batch bounds the rows that one statement of this file changes.
	batch = 1000
	// farLease is longer than any lease. An instance whose clock is an hour ahead
	// would take all leases of the others anyway.
	farLease = time.Hour

	delayedSQL = `SELECT id FROM managed WHERE failed_with = $1 AND failed_with <> '' AND due_at > $2 ORDER BY due_at LIMIT CAST($3 AS BIGINT)`
	// The failures stay, so that a row that is itself the cause is not retried after
	// each success of another row.
	endDelaysSQL = `UPDATE managed SET due_at = $2, failed_with = '` + eased + `' WHERE id IN (` + delayedSQL + `)`

	parkedSQL      = `SELECT id FROM managed WHERE due_at > not_after AND due_at > $1 ORDER BY due_at LIMIT $2`
	parkedHooksSQL = `SELECT managed_id FROM hooks_pending WHERE due_at > $1 ORDER BY due_at LIMIT $2`
	farLeasesSQL   = `SELECT id FROM managed WHERE lease_until > 0 AND lease_until > $1 ORDER BY lease_until LIMIT $2`
	farHooksSQL    = `SELECT managed_id FROM hooks_pending WHERE lease_until > 0 AND lease_until > $1 ORDER BY lease_until LIMIT $2`
)

// EndDelays makes up to a thousand rows due now whose last attempt had a temporary
// failure with this CA, and returns their number. Callers call it when the CA works
// again. Without such rows it writes nothing.
func (s *certificateStore) EndDelays(ctx context.Context, ca string) (int64, error) {
	now := sqldb.Millis(s.Now())
	found, err := s.Finds(ctx, delayedSQL, ca, now, 1)
	if err != nil || !found {
		return 0, s.Fail(err, "find delayed certificates")
	}
	n, err := s.Exec(ctx, endDelaysSQL, ca, now, batch)
	return n, s.Fail(err, "end delays")
}
