package store

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
)

// plainEnd separates both texts of a failure in their column. Rows of older
// programs have the administrator's alone.
const plainEnd = "\x1f"

// failureText joins both texts of a failure.
func failureText(f managed.Failure) string {
	clean := func(s string) string { return strings.ReplaceAll(cleanText(s), plainEnd, "\uFFFD") }
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
func (s *Store) EndDelays(ctx context.Context, ca string) (int64, error) {
	now := millis(s.now())
	found, err := s.finds(ctx, delayedSQL, ca, now, 1)
	if err != nil || !found {
		return 0, s.fail(err, "find delayed certificates")
	}
	n, err := s.exec(ctx, endDelaysSQL, ca, now, batch)
	return n, s.fail(err, "end delays")
}

// Unpark corrects the times that an instance with a wrong clock wrote: rows and
// deployments that are due later than [cert.IsParked] allows become due now, and
// leases that end in more than an hour become free. Without such rows nothing is
// written, and only they are read.
func (s *Store) Unpark(ctx context.Context) (int64, error) {
	now := s.now()
	due, lease := millis(now.Add(cert.LongestWait)), millis(now.Add(farLease))
	const free = ` SET lease_owner = '', lease_until = 0 WHERE `
	var all int64
	for _, fix := range []struct {
		find, update string
		after        int64
		args         []any
	}{
		{parkedSQL, `UPDATE managed SET due_at = $3 WHERE id IN (` + parkedSQL + `)`, due, []any{millis(now)}},
		{parkedHooksSQL, `UPDATE hooks_pending SET due_at = $3 WHERE managed_id IN (` + parkedHooksSQL + `)`, due, []any{millis(now)}},
		{farLeasesSQL, `UPDATE managed` + free + `id IN (` + farLeasesSQL + `)`, lease, nil},
		{farHooksSQL, `UPDATE hooks_pending` + free + `managed_id IN (` + farHooksSQL + `)`, lease, nil},
	} {
		for {
			found, err := s.finds(ctx, fix.find, fix.after, 1)
			if err != nil {
				return all, s.fail(err, "find times of a wrong clock")
			}
			if !found {
				break
			}
			n, err := s.exec(ctx, fix.update, append([]any{fix.after, batch}, fix.args...)...)
			if err != nil {
				return all, s.fail(err, "correct times of a wrong clock")
			}
			all += n
		}
	}
	return all, nil
}

// finds reports whether a query has a row.
func (s *Store) finds(ctx context.Context, query string, args ...any) (bool, error) {
	var id string
	err := s.read.QueryRowContext(ctx, query, args...).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}

// ProbeWrite reports whether the database can be written: it commits one small row.
func (s *Store) ProbeWrite(ctx context.Context) error {
	_, err := s.exec(ctx, `INSERT INTO counters (name, value) VALUES ('probe', $1)
		ON CONFLICT (name) DO UPDATE SET value = excluded.value`, millis(s.now()))
	return s.fail(err, "write to the database")
}
