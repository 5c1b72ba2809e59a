package store

import (
	"context"
	"database/sql"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/store/sqldb"
)

// RevokeManaged records that the current certificate of a row, which must have that
// serial number, is revoked, until the next bundle is stored. The row is due at dueAt,
// or at its present due time if that is earlier. dead is a CSR with a compromised key,
// or nil. If the row still has that CSR, it is never due until the CSR is replaced, and
// work in flight ends with [managed.ErrLost]. RevokeManaged returns [managed.ErrLost],
// and nothing changes, if the row has another certificate or was deleted.
func (s *certificateStore) RevokeManaged(ctx context.Context, id, serial string, dueAt time.Time, dead []byte) error {
	err := s.Tx(ctx, func(tx *sql.Tx) error {
		n, err := sqldb.Affected(tx.ExecContext(ctx, `UPDATE managed SET revoked_at = $3, updated_at = $3,
			due_at = CASE WHEN superseded_at > 0 THEN 0 WHEN (due_at > 0 OR revoked_at > 0) AND due_at < CAST($4 AS BIGINT) THEN due_at ELSE CAST($4 AS BIGINT) END
			WHERE id = $1 AND serial = $2 AND serial <> ''`, id, serial, sqldb.Millis(s.Now()), sqldb.Millis(dueAt)))
		if err := sqldb.Require(n, err, managed.ErrLost); err != nil || len(dead) == 0 {
			return err
		}
		if _, err := tx.ExecContext(ctx, `UPDATE managed SET due_at = 0, lease_owner = '', lease_until = 0
			WHERE id = $1 AND csr = $2`, id, dead); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `DELETE FROM orders WHERE managed_id = $1 AND csr = $2`, id, dead)
		return err
	})
	return s.Fail(err, "record that %s is revoked", id)
}

// DeleteRevoked deletes a row whose certificate was revoked, as [Store.DeleteManaged]
// does. It returns [managed.ErrLost], and nothing changes, if its current certificate
// has another serial number and so is not revoked.
func (s *certificateStore) DeleteRevoked(ctx context.Context, id, serial string) error {
	return s.deleteManaged(ctx, id, &serial, false)
}
