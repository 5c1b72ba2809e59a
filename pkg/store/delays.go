package store

import (
	"context"
	"strings"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/store/sqldb"
)

// plainEnd separates both texts of a failure in their column. Rows of older
// programs have the administrator's alone.
const plainEnd = "\x1f"

// failureText joins both texts of a failure.
func failureText(f managed.Failure) string {
	clean := func(s string) string { return strings.ReplaceAll(sqldb.CleanText(s), plainEnd, "\uFFFD") }
	if f.Plain == "" {
		return clean(f.Reason)
	}
	return clean(f.Plain) + plainEnd + clean(f.Reason)
}

// counted returns what a failure adds to the failures of a row.
func counted(f managed.Failure) int {
	if f.Local {
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

// eased is the failed_with of a row whose delay was ended. If its next attempt
// fails, that delay is not ended early: the cause may be the row's own.
const eased = "eased"

const (
	// batch bounds the rows that one statement of this file changes.
	batch = 1000
	// farLease is longer than any lease. An instance whose clock runs an hour
	// ahead would take all leases of the others anyway.
	farLease = time.Hour

	delayedSQL = `SELECT id FROM managed WHERE failed_with = $1 AND failed_with <> '' AND due_at > $2 ORDER BY due_at LIMIT $3`
	// The failures stay: a row whose cause is its own must not be tried again each
	// time that another one succeeds.
	endDelaysSQL = `UPDATE managed SET due_at = $2, failed_with = '` + eased + `' WHERE id IN (` + delayedSQL + `)`

	parkedSQL      = `SELECT id FROM managed WHERE due_at > not_after AND due_at > $1 ORDER BY due_at LIMIT $2`
	parkedHooksSQL = `SELECT managed_id FROM hooks_pending WHERE due_at > $1 ORDER BY due_at LIMIT $2`
	farLeasesSQL   = `SELECT id FROM managed WHERE lease_until > 0 AND lease_until > $1 ORDER BY lease_until LIMIT $2`
	farHooksSQL    = `SELECT managed_id FROM hooks_pending WHERE lease_until > 0 AND lease_until > $1 ORDER BY lease_until LIMIT $2`
)

// EndDelays makes rows due now whose last attempt failed with this CA for a
// temporary reason, a thousand at most, and returns their number. The CA works
// again, so waiting has no purpose. Without such rows nothing is written.
func (s *certificateStore) EndDelays(ctx context.Context, ca string) (int64, error) {
	now := sqldb.Millis(s.Now())
	found, err := s.Finds(ctx, delayedSQL, ca, now, 1)
	if err != nil || !found {
		return 0, s.Fail(err, "find delayed certificates")
	}
	n, err := s.Exec(ctx, endDelaysSQL, ca, now, batch)
	return n, s.Fail(err, "end delays")
}
