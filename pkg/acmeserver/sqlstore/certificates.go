package sqlstore

import (
	"context"
	"encoding/binary"
	"errors"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
	"github.com/acmeproxy/acmeproxy/pkg/store/sqldb"
)

const (
	certificateColumns = `id, order_id, account_id, owner, chains, fingerprint, key_hash, ari_id, identifiers, not_before, not_after, state,
		collected, replaced_by, revoked_at, reason, created_at`

	createCertificateSQL = `INSERT INTO acme_certificates (` + certificateColumns + `, share)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18) ON CONFLICT (id) DO NOTHING`

	certificateSQL = `SELECT ` + certificateColumns + ` FROM acme_certificates WHERE id = $1`
	fingerprintSQL = `SELECT ` + certificateColumns + ` FROM acme_certificates WHERE fingerprint = $1`
	byARISQL       = `SELECT ` + certificateColumns + ` FROM acme_certificates WHERE ari_id = $1 AND ari_id <> '' ORDER BY created_at DESC, id DESC LIMIT 1`
	uncollectedSQL = `SELECT ` + certificateColumns + ` FROM acme_certificates WHERE share = $1 AND share <> '' AND key_hash = $2
		AND created_at > $3 AND revoked_at = 0 AND (NOT collected AND created_at > $4 OR created_at > $5)
		ORDER BY created_at DESC, id DESC LIMIT 1`
	fingerprintOfSQL = `SELECT fingerprint FROM acme_certificates WHERE id = $1`
	collectSQL       = `UPDATE acme_certificates SET collected = TRUE WHERE fingerprint = $1 AND NOT collected`
	revokeSQL        = `UPDATE acme_certificates SET revoked_at = $2, reason = $3 WHERE fingerprint = $1 AND revoked_at = 0`
	hasRecordSQL     = `SELECT id FROM acme_certificates WHERE fingerprint = $1 LIMIT 1`
)

// certificateArgs returns the values of a certificate's columns.
func certificateArgs(c acmeserver.Certificate, share string) ([]any, error) {
	identifiers, err := toJSON(c.Identifiers)
	return []any{
		c.ID, c.OrderID, c.AccountID, c.Owner, joinChains(c.Chains), c.Fingerprint, c.KeyHash, c.ARIID, identifiers,
		sqldb.Millis(c.NotBefore), sqldb.Millis(c.NotAfter), sqldb.Blob(c.State), c.Collected, c.ReplacedBy, sqldb.Millis(c.RevokedAt), c.Reason,
		sqldb.Millis(c.CreatedAt), share,
	}, err
}

func scanCertificate(row sqldb.Scanner) (c acmeserver.Certificate, err error) {
	var chains []byte
	if err = row.Scan(&c.ID, &c.OrderID, &c.AccountID, &c.Owner, &chains, &c.Fingerprint, &c.KeyHash, &c.ARIID, fromJSON(&c.Identifiers),
		sqldb.Time(&c.NotBefore), sqldb.Time(&c.NotAfter), &c.State, &c.Collected, &c.ReplacedBy, sqldb.Time(&c.RevokedAt), &c.Reason,
		sqldb.Time(&c.CreatedAt)); err != nil {
		return c, err
	}
	if len(c.State) == 0 {
		c.State = nil
	}
	c.Chains, err = splitChains(chains)
	return c, err
}

// joinChains returns the column's form of chains, each after its length.
func joinChains(chains [][]byte) []byte {
	joined := []byte{}
	for _, chain := range chains {
		joined = binary.AppendUvarint(joined, uint64(len(chain)))
		joined = append(joined, chain...)
	}
	return joined
}

func splitChains(joined []byte) (chains [][]byte, err error) {
	for len(joined) > 0 {
		length, n := binary.Uvarint(joined)
		if n <= 0 || length > uint64(len(joined)-n) {
			return nil, errors.New("the chains of a certificate are damaged")
		}
		end := n + int(length)
		chains = append(chains, joined[n:end:end])
		joined = joined[end:]
	}
	return chains, nil
}

// CertificateByID implements [acmeserver.Storage].
func (s *Store) CertificateByID(ctx context.Context, id string) (acmeserver.Certificate, error) {
	c, err := scanCertificate(s.db.Reader().QueryRowContext(ctx, certificateSQL, id))
	return c, s.lookup(err, "certificate %q", id)
}

// CertificatesByFingerprint implements [acmeserver.Storage].
func (s *Store) CertificatesByFingerprint(ctx context.Context, fingerprint string) ([]acmeserver.Certificate, error) {
	rows, err := s.db.Reader().QueryContext(ctx, fingerprintSQL, fingerprint)
	all, err := sqldb.Collect(rows, err, scanCertificate)
	if err = s.lookup(err, "certificates with the fingerprint %q", fingerprint); errors.Is(err, acmeserver.ErrNotFound) {
		err = nil
	}
	return all, err
}

// CertificateByARI implements [acmeserver.Storage].
func (s *Store) CertificateByARI(ctx context.Context, ariID string) (acmeserver.Certificate, error) {
	c, err := scanCertificate(s.db.Reader().QueryRowContext(ctx, byARISQL, ariID))
	return c, s.lookup(err, "certificate with the ARI id %q", ariID)
}

// Uncollected implements [acmeserver.Storage].
func (s *Store) Uncollected(ctx context.Context, share, keyHash string, after, joined time.Time) (acmeserver.Certificate, error) {
	earliest := min(sqldb.Millis(after), sqldb.Millis(joined)) // so that the index leaves out older ones
	c, err := scanCertificate(s.db.Reader().QueryRowContext(ctx, uncollectedSQL, share, keyHash, earliest, sqldb.Millis(after), sqldb.Millis(joined)))
	return c, s.lookup(err, "uncollected certificate")
}

// SetCollected implements [acmeserver.Storage].
func (s *Store) SetCollected(ctx context.Context, id string) error {
	var fingerprint string
	if err := s.db.Reader().QueryRowContext(ctx, fingerprintOfSQL, id).Scan(&fingerprint); err != nil {
		return s.lookup(err, "certificate %q", id)
	}
	err := s.writeUnsynced(ctx, func(ctx context.Context, tx sqldb.Execer) error {
		_, err := tx.ExecContext(ctx, collectSQL, fingerprint)
		return err
	})
	return s.fail(err, "record that certificate %q was collected", id)
}

// SetRevoked implements [acmeserver.Storage].
func (s *Store) SetRevoked(ctx context.Context, fingerprint string, at time.Time, reason int) error {
	err := s.write(ctx, func(ctx context.Context, tx sqldb.Execer) error {
		n, err := sqldb.Affected(tx.ExecContext(ctx, revokeSQL, fingerprint, sqldb.Millis(at), reason))
		if err != nil || n > 0 {
			return err
		}
		var id string
		if err := tx.QueryRowContext(ctx, hasRecordSQL, fingerprint).Scan(&id); err != nil {
			return err
		}
		return acmeserver.ErrExists
	})
	return s.lookup(err, "record the revocation of %q", fingerprint)
}
