package sqlstore

import (
	"context"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
	"github.com/acmeproxy/acmeproxy/pkg/store/sqldb"
)

// Patterns of owners are not in an index: they are for rare acts of an administrator.
const (
	liveSQL = `SELECT ` + certificateColumns + ` FROM acme_certificates
		WHERE id > $1 AND owner LIKE $2 AND not_after > $3 AND revoked_at = 0 ORDER BY id LIMIT $4`
	deactivateSQL = `UPDATE acme_accounts SET status = 'deactivated', version = version + 1 WHERE owner LIKE $1 AND status = 'valid'`
)

// LiveCertificates returns up to limit certificates whose IDs follow after, and which are
// neither expired nor revoked, by ID. Their owners begin with a prefix, which must have
// no characters of patterns.
func (s *Store) LiveCertificates(ctx context.Context, prefix, after string, now time.Time, limit int) ([]acmeserver.Certificate, error) {
	rows, err := s.db.Reader().QueryContext(ctx, liveSQL, after, prefix+"%", sqldb.Millis(now), limit)
	all, err := sqldb.Collect(rows, err, scanCertificate)
	return all, s.fail(err, "certificates of the owner %q", prefix)
}

// DeactivateAccounts deactivates the accounts whose owners begin with a prefix, as
// LiveCertificates has it. Purge deletes them later.
func (s *Store) DeactivateAccounts(ctx context.Context, prefix string) error {
	err := s.write(ctx, func(ctx context.Context, tx sqldb.Execer) error {
		_, err := tx.ExecContext(ctx, deactivateSQL, prefix+"%")
		return err
	})
	return s.fail(err, "deactivate the accounts of %q", prefix)
}
