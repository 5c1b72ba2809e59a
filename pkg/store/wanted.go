package store

import (
	"context"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/store/sqldb"
)

const (
	wantRevocationSQL = `INSERT INTO wanted_revocations (managed_id, serial, client_id, ca, leaf, reason, forget, wanted_at, due_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8) ON CONFLICT (managed_id, serial) DO UPDATE SET
		client_id = excluded.client_id, ca = excluded.ca, leaf = excluded.leaf, reason = excluded.reason,
		forget = excluded.forget, wanted_at = excluded.wanted_at, due_at = excluded.due_at`

	// A time that is too far in the future was stored under a wrong clock.
	wantedRevocationsSQL = `SELECT managed_id, serial, client_id, ca, leaf, reason, forget, wanted_at, due_at FROM wanted_revocations
		WHERE due_at <= $1 OR due_at > $2 ORDER BY due_at, managed_id, serial LIMIT $3`
)

// WantRevocation stores a revocation before the CA is asked. It replaces an earlier one
// of the same certificate, and is due now.
func (s *certificateStore) WantRevocation(ctx context.Context, w managed.WantedRevocation) error {
	_, err := s.Exec(ctx, wantRevocationSQL, w.ManagedID, w.Serial, w.ClientID, w.CA, sqldb.Blob(w.Leaf), w.Reason, w.Forget,
		sqldb.Millis(s.Now()))
	return s.Fail(err, "store the revocation of %s", w.ManagedID)
}

// WantedRevocations returns up to limit revocations that are due. Those that are due
// only after more than a day are due as well, because a clock was wrong.
func (s *certificateStore) WantedRevocations(ctx context.Context, limit int) ([]managed.WantedRevocation, error) {
	now := s.Now()
	rows, err := s.Reader().QueryContext(ctx, wantedRevocationsSQL, sqldb.Millis(now), sqldb.Millis(now.Add(24*time.Hour)), limit)
	found, err := sqldb.Collect(rows, err, func(row sqldb.Scanner) (w managed.WantedRevocation, err error) {
		return w, row.Scan(&w.ManagedID, &w.Serial, &w.ClientID, &w.CA, &w.Leaf, &w.Reason, &w.Forget,
			sqldb.Time(&w.WantedAt), sqldb.Time(&w.DueAt))
	})
	return found, s.Fail(err, "list wanted revocations")
}

// PostponeRevocation sets the time of the next attempt, at most a day ahead. It does
// nothing if the revocation is not wanted any more.
func (s *certificateStore) PostponeRevocation(ctx context.Context, managedID, serial string, dueAt time.Time) error {
	_, err := s.Exec(ctx, `UPDATE wanted_revocations SET due_at = $3 WHERE managed_id = $1 AND serial = $2`,
		managedID, serial, sqldb.Millis(dueAt))
	return s.Fail(err, "postpone the revocation of %s", managedID)
}

// EndRevocation removes a revocation that was carried out or refused.
func (s *certificateStore) EndRevocation(ctx context.Context, managedID, serial string) error {
	_, err := s.Exec(ctx, `DELETE FROM wanted_revocations WHERE managed_id = $1 AND serial = $2`, managedID, serial)
	return s.Fail(err, "end the revocation of %s", managedID)
}
