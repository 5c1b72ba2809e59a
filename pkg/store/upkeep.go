package store

import (
	"context"
	"database/sql"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/store/sqldb"
)

// FreeLeases ends all leases of rows and hooks and leaves them due. It is for the only
// instance on a database when it starts. The former holders have ended then, and
// waiting for the end of their leases would lose time.
func (s *Store) FreeLeases(ctx context.Context) error {
	err := s.Tx(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE managed SET lease_owner = '', lease_until = 0 WHERE lease_until > 0`)
		if err == nil {
			_, err = tx.ExecContext(ctx, `UPDATE hooks_pending SET lease_owner = '', lease_until = 0 WHERE lease_until > 0`)
		}
		return err
	})
	return s.Fail(err, "free leases")
}

// Unpark corrects times that an instance with a wrong clock wrote. Rows and deployments
// that are due later than [cert.IsParked] allows become due now. Leases that end in
// more than an hour are ended. It reads only such rows, and writes nothing without
// them.
func (s *Store) Unpark(ctx context.Context) (int64, error) {
	now := s.Now()
	due, lease := sqldb.Millis(now.Add(cert.LongestWait)), sqldb.Millis(now.Add(farLease))
	const free = ` SET lease_owner = '', lease_until = 0 WHERE `
	var all int64
	for _, fix := range []struct {
		find, update string
		after        int64
		args         []any
	}{
		{parkedSQL, `UPDATE managed SET due_at = $3 WHERE id IN (` + parkedSQL + `)`, due, []any{sqldb.Millis(now)}},
		{parkedHooksSQL, `UPDATE hooks_pending SET due_at = $3 WHERE managed_id IN (` + parkedHooksSQL + `)`, due, []any{sqldb.Millis(now)}},
		{farLeasesSQL, `UPDATE managed` + free + `id IN (` + farLeasesSQL + `)`, lease, nil},
		{farHooksSQL, `UPDATE hooks_pending` + free + `managed_id IN (` + farHooksSQL + `)`, lease, nil},
	} {
		for {
			found, err := s.Finds(ctx, fix.find, fix.after, 1)
			if err != nil {
				return all, s.Fail(err, "find times of a wrong clock")
			}
			if !found {
				break
			}
			n, err := s.Exec(ctx, fix.update, append([]any{fix.after, batch}, fix.args...)...)
			if err != nil {
				return all, s.Fail(err, "correct times of a wrong clock")
			}
			all += n
		}
	}
	return all, nil
}

// ProbeWrite commits one small row, and returns an error if the database cannot be
// written.
func (s *Store) ProbeWrite(ctx context.Context) error {
	_, err := s.Exec(ctx, `INSERT INTO counters (name, value) VALUES ('probe', $1)
		ON CONFLICT (name) DO UPDATE SET value = excluded.value`, sqldb.Millis(s.Now()))
	return s.Fail(err, "write to the database")
}
