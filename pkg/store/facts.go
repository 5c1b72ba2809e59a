package store

import (
	"context"
	"database/sql"
	"errors"
)

// WantsDefaultQuota reports whether the database was created by a program that
// gives each client a default quota. In an older database no client that works
// today is stopped by one.
func (s *quotaStore) WantsDefaultQuota(ctx context.Context) (bool, error) {
	var n int64
	err := s.Reader().QueryRowContext(ctx, `SELECT value FROM facts WHERE name = 'default_quota'`).Scan(&n)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return n > 0, s.Fail(err, "read facts of the database")
}
