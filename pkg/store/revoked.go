package store

import (
	"context"
	"database/sql"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/store/sqldb"
)

// RevokeManaged records that the current certificate of a row, which must have
// that serial number, is revoked. The row is due at dueAt, or as early as it
// was. If its CSR is still dead, whose key is compromised, it is never due until
// there is another one, also not when it is revoked again, and work in flight
// ends with [managed.ErrLost]; nil: no CSR is. The next bundle ends it. [managed.ErrLost], and
// nothing changes, if there is another certificate by now or the row is gone.
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

// DeleteRevoked is [Store.DeleteManaged] for a row whose certificate has been
// revoked. [managed.ErrLost], and nothing changes, if its current certificate has
// another serial number by now: that one is not revoked.
func (s *certificateStore) DeleteRevoked(ctx context.Context, id, serial string) error {
	return s.deleteManaged(ctx, id, &serial)
}
