package store

import (
	"context"
	"database/sql"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/store/sqldb"
)

const bundleSQL = `SELECT managed_id, etag, ciphertext, serial, not_before, not_after, ca, certificate_url, ari_id, created_at FROM bundles WHERE managed_id = $1`

// CompleteManaged stores a new bundle in one transaction. The bundle replaces the old
// one and its renewal information. The row is due again at dueAt (zero: never). Its
// failures, lease and order are cleared. With hook, a deployment is pending.
// CompleteManaged changes nothing and returns [managed.ErrLost] if the owner lost the
// row, or [managed.ErrStale] if the client's recipients are no longer those of
// SealedTo.
func (s *certificateStore) CompleteManaged(ctx context.Context, owner string, b managed.Bundle, dueAt time.Time, hook bool) error {
	if owner == "" {
		return sqldb.ErrNoOwner
	}
	now := sqldb.Millis(s.Now())
	err := s.Grouped(ctx, func(ctx context.Context, tx *sql.Tx) error {
		stale, err := sealedToOthers(ctx, tx, b)
		if err != nil {
			return err
		}
		n, err := sqldb.Affected(tx.ExecContext(ctx, `UPDATE managed SET etag = $3, serial = $4, not_before = $5, not_after = $6, due_at = $7,
			ca = $9, ari_id = $10, ari_start = 0, ari_end = 0, ari_check_at = 0, revoked_at = 0, failures = 0, failed_with = '', last_error = '', last_error_at = 0, wait_until = 0, planned_at = 0, lease_owner = '', lease_until = 0, updated_at = $8
			WHERE id = $1 AND lease_owner = $2`,
			b.ManagedID, owner, b.ETag, b.Serial, sqldb.Millis(b.NotBefore), sqldb.Millis(b.NotAfter), sqldb.Millis(dueAt), now, b.CA, b.ARIID))
		if err == nil && n == 0 {
			return isComplete(ctx, tx, b)
		}
		if err != nil {
			return err
		}
		if stale {
			return managed.ErrStale
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO bundles (managed_id, etag, ciphertext, serial, not_before, not_after, ca, certificate_url, ari_id, created_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (managed_id) DO UPDATE SET etag = excluded.etag, ciphertext = excluded.ciphertext,
			serial = excluded.serial, not_before = excluded.not_before, not_after = excluded.not_after,
			ca = excluded.ca, certificate_url = excluded.certificate_url, ari_id = excluded.ari_id, created_at = excluded.created_at`,
			b.ManagedID, b.ETag, sqldb.Blob(b.Ciphertext), b.Serial, sqldb.Millis(b.NotBefore), sqldb.Millis(b.NotAfter), b.CA, b.CertificateURL, b.ARIID, now); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM orders WHERE managed_id = $1`, b.ManagedID); err != nil || !hook {
			return err
		}
		_, err = tx.ExecContext(ctx, requireHookSQL, b.ManagedID, b.ETag, now)
		return err
	})
	return s.Fail(err, "complete %s", b.ManagedID)
}

// isComplete returns nil if the bundle is stored already: the answer to the first
// attempt was lost. Otherwise it returns [managed.ErrLost].
func isComplete(ctx context.Context, tx *sql.Tx, b managed.Bundle) error {
	var n int
	if err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM managed WHERE id = $1 AND etag = $2 AND etag <> ''`, b.ManagedID, b.ETag).Scan(&n); err != nil {
		return err
	}
	if n == 0 {
		return managed.ErrLost
	}
	return nil
}

// sealedToOthers reports whether the client's recipients have changed. If not, it locks
// the client's row until the transaction ends, so that they cannot change meanwhile.
func sealedToOthers(ctx context.Context, tx *sql.Tx, b managed.Bundle) (bool, error) {
	if b.SealedTo == nil {
		return false, nil
	}
	recipients, err := sqldb.Lines("recipients", b.SealedTo)
	if err != nil {
		return false, err
	}
	n, err := sqldb.Affected(tx.ExecContext(ctx, `UPDATE clients SET name = name
		WHERE id = (SELECT client_id FROM managed WHERE id = $1) AND recipients = $2`, b.ManagedID, recipients))
	return n == 0, err
}

// BundleFor returns the current bundle of a managed certificate, or
// [managed.ErrNotFound] before the first one.
func (s *certificateStore) BundleFor(ctx context.Context, managedID string) (managed.Bundle, error) {
	var b managed.Bundle
	err := s.Reader().QueryRowContext(ctx, bundleSQL, managedID).Scan(&b.ManagedID, &b.ETag, &b.Ciphertext, &b.Serial,
		sqldb.Time(&b.NotBefore), sqldb.Time(&b.NotAfter), &b.CA, &b.CertificateURL, &b.ARIID, sqldb.Time(&b.CreatedAt))
	return b, s.Fail(err, "bundle of %s", managedID)
}
