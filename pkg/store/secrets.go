package store

import (
	"context"
	"database/sql"

	"github.com/acmeproxy/acmeproxy/pkg/store/sqldb"
)

// CreateSecret stores a small sealed value unless one of that name exists already, and
// returns the stored value. The first writer wins.
func (s *secretStore) CreateSecret(ctx context.Context, name string, sealed []byte) ([]byte, error) {
	var stored []byte
	err := s.Tx(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `INSERT INTO secrets (name, sealed) VALUES ($1, $2)
			ON CONFLICT (name) DO NOTHING`, name, sqldb.Blob(sealed)); err != nil {
			return err
		}
		return tx.QueryRowContext(ctx, secretSQL, name).Scan(&stored)
	})
	return stored, s.Fail(err, "create secret %s", name)
}

const secretSQL = `SELECT sealed FROM secrets WHERE name = $1`

// Secret returns a sealed value, or [managed.ErrNotFound].
func (s *secretStore) Secret(ctx context.Context, name string) ([]byte, error) {
	var sealed []byte
	err := s.Reader().QueryRowContext(ctx, secretSQL, name).Scan(&sealed)
	return sealed, s.Fail(err, "secret %s", name)
}
