package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/store/sqldb"
	"github.com/acmeproxy/acmeproxy/pkg/trail"
)

const takeQuotaSQL = `INSERT INTO limits (client_id, day, taken) VALUES ($1, $2, 1)
	ON CONFLICT (client_id, day) DO UPDATE SET taken = limits.taken + 1
	WHERE CAST($3 AS BIGINT) <= 0 OR limits.taken < CAST($3 AS BIGINT) RETURNING taken`

// TakeQuota counts one request of a client on the UTC day of day, and reports whether
// it is within quota. It does not count a request beyond the quota. A quota of 0 only
// counts. It returns [managed.ErrNotFound] for an unknown client. A power failure may
// undo the last counts, unless there are entries of the audit trail: they are stored in
// the same transaction if the request is within quota.
func (s *quotaStore) TakeQuota(ctx context.Context, clientID string, day time.Time, quota int, entries ...trail.Entry) (bool, error) {
	const oneDay = 24 * time.Hour
	today := day.UTC().Truncate(oneDay)
	taken := false
	write := s.Unsynced
	if len(entries) > 0 {
		write = s.Grouped
	}
	err := write(ctx, func(ctx context.Context, tx *sql.Tx) error {
		var count int64
		err := s.Prepared(tx).QueryRowContext(ctx, takeQuotaSQL, clientID, sqldb.Millis(today), quota).Scan(&count)
		if errors.Is(err, sql.ErrNoRows) {
			return nil // spent
		}
		if err != nil {
			return err
		}
		taken = true
		if count == 1 { // A new day: clear the old ones. Yesterday stays, for clocks that differ.
			if _, err = tx.ExecContext(ctx, `DELETE FROM limits WHERE client_id = $1 AND day < $2`,
				clientID, sqldb.Millis(today.Add(-oneDay))); err != nil {
				return err
			}
		}
		return s.audit.append(ctx, s.Prepared(tx), entries...)
	})
	return taken && err == nil, s.Fail(err, "take quota of client %s", clientID)
}

// QuotaTaken returns the number of requests that TakeQuota counted on that day.
func (s *quotaStore) QuotaTaken(ctx context.Context, clientID string, day time.Time) (taken int, err error) {
	err = s.Reader().QueryRowContext(ctx, quotaTakenSQL, clientID, sqldb.Millis(day.UTC().Truncate(24*time.Hour))).Scan(&taken)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return taken, s.Fail(err, "quota of client %s", clientID)
}

const quotaTakenSQL = `SELECT taken FROM limits WHERE client_id = $1 AND day = $2`

// ReturnQuota subtracts one request from those that TakeQuota counted on that day.
func (s *quotaStore) ReturnQuota(ctx context.Context, clientID string, day time.Time) error {
	_, err := s.Exec(ctx, `UPDATE limits SET taken = taken - 1 WHERE client_id = $1 AND day = $2 AND taken > 0`,
		clientID, sqldb.Millis(day.UTC().Truncate(24*time.Hour)))
	return s.Fail(err, "return quota of client %s", clientID)
}
