package store

import (
	"context"
	"database/sql"
	"errors"
)

// WantsDefaultQuota reports whether the program that created the database gives each
// client a default quota. In an older database, no quota stops existing clients.
func (s *quotaStore) WantsDefaultQuota(ctx context.Context) (bool, error) {
	var n int64
	err := s.Reader().QueryRowContext(ctx, `SELECT value FROM facts WHERE name = 'default_quota'`).Scan(&n)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return n > 0, s.Fail(err, "read facts of the database")
}
