package sqlstore

import (
	"context"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/store/sqldb"
)

const (
	secretSQL       = `SELECT value FROM acme_secrets WHERE name = $1`
	createSecretSQL = `INSERT INTO acme_secrets (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING`
	useNonceSQL     = `INSERT INTO acme_nonces (expires_at, id) VALUES ($1, $2) ON CONFLICT (expires_at, id) DO NOTHING`

	// MATERIALIZED: PostgreSQL must not evaluate the select again for each row. %s is
	// DB.SkipLocked, as in all such queries of this package.
	purgeNoncesSQL = `WITH old AS MATERIALIZED (SELECT expires_at, id FROM acme_nonces WHERE expires_at < $1 ORDER BY expires_at LIMIT $2 %s)
		DELETE FROM acme_nonces WHERE (expires_at, id) IN (SELECT expires_at, id FROM old)`
)

// Secret implements [acmeserver.Storage].
func (s *Store) Secret(ctx context.Context, name string, value []byte) ([]byte, error) {
	var stored []byte
	err := s.write(ctx, func(ctx context.Context, tx sqldb.Execer) error {
		if _, err := tx.ExecContext(ctx, createSecretSQL, name, sqldb.Blob(value)); err != nil {
			return err
		}
		return tx.QueryRowContext(ctx, secretSQL, name).Scan(&stored)
	})
	return stored, s.fail(err, "secret %q", name)
}

// UseNonce implements [acmeserver.Storage].
func (s *Store) UseNonce(ctx context.Context, id string, expires time.Time) error {
	err := s.writeUnsynced(ctx, func(ctx context.Context, tx sqldb.Execer) error {
		return insert(ctx, tx, useNonceSQL, sqldb.Millis(expires), id)
	})
	return s.fail(err, "use nonce")
}

// PurgeNonces implements [acmeserver.Storage].
func (s *Store) PurgeNonces(ctx context.Context, before time.Time, limit int) (more bool, err error) {
	more, err = s.inBatches(limit, func(limit int) (int64, error) { return s.purge(ctx, purgeNoncesSQL, before, limit) })
	return more, s.fail(err, "purge nonces")
}
