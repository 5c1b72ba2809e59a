package store

import (
	"context"
	"time"
)

// RevokeManaged records that the current certificate of a row, which must have
// that serial number, is revoked. The row is due at dueAt, or as early as it
// was; zero: never. The next bundle ends it. [ErrLost], and nothing changes, if
// there is another certificate by now or the row is gone.
func (s *Store) RevokeManaged(ctx context.Context, id, serial string, dueAt time.Time) error {
	n, err := s.exec(ctx, `UPDATE managed SET revoked_at = $3, updated_at = $3,
		due_at = CASE WHEN due_at > 0 AND due_at < CAST($4 AS BIGINT) THEN due_at ELSE CAST($4 AS BIGINT) END
		WHERE id = $1 AND serial = $2 AND serial <> ''`, id, serial, millis(s.now()), millis(dueAt))
	return s.fail(must(n, err, ErrLost), "record that %s is revoked", id)
}

// DeleteRevoked is [Store.DeleteManaged] for a row whose certificate has been
// revoked. [ErrLost], and nothing changes, if its current certificate has
// another serial number by now: that one is not revoked.
func (s *Store) DeleteRevoked(ctx context.Context, id, serial string) error {
	return s.deleteManaged(ctx, id, &serial)
}
