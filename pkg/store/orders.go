package store

import (
	"context"
	"database/sql"

	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/store/sqldb"
)

// holdSQL locks the managed row until the transaction ends, if the owner holds it.
const holdSQL = `UPDATE managed SET lease_owner = lease_owner WHERE id = $1 AND lease_owner = $2`

// SaveOrder writes an order to the journal and replaces an older one of the row. It
// returns [managed.ErrLost] if owner does not hold the managed row.
func (s *certificateStore) SaveOrder(ctx context.Context, owner string, o managed.Order) error {
	if owner == "" {
		return sqldb.ErrNoOwner
	}
	err := s.Grouped(ctx, func(ctx context.Context, tx *sql.Tx) error {
		// The row stays locked until the order is stored.
		n, err := sqldb.Affected(tx.ExecContext(ctx, holdSQL, o.ManagedID, owner))
		if err := sqldb.Require(n, err, managed.ErrLost); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO orders (managed_id, directory_url, order_url, csr, sealed_key, created_at)
			VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (managed_id) DO UPDATE SET directory_url = excluded.directory_url,
			order_url = excluded.order_url, csr = excluded.csr, sealed_key = excluded.sealed_key, created_at = excluded.created_at`,
			o.ManagedID, o.CA, o.URL, sqldb.Blob(o.CSR), sqldb.Blob(o.SealedKey), sqldb.Millis(s.Now()))
		return err
	})
	return s.Fail(err, "save order for %s", o.ManagedID)
}

// OrderFor returns the unfinished order of a managed certificate, or
// [managed.ErrNotFound].
func (s *certificateStore) OrderFor(ctx context.Context, managedID string) (managed.Order, error) {
	var o managed.Order
	err := s.Reader().QueryRowContext(ctx, `SELECT managed_id, directory_url, order_url, csr, sealed_key, created_at
		FROM orders WHERE managed_id = $1`, managedID).Scan(&o.ManagedID, &o.CA, &o.URL, &o.CSR, &o.SealedKey,
		sqldb.Time(&o.CreatedAt))
	if len(o.SealedKey) == 0 {
		o.SealedKey = nil
	}
	return o, s.Fail(err, "order for %s", managedID)
}

// DeleteOrder deletes the unfinished order of a managed certificate, if any. It returns
// [managed.ErrLost] if owner does not hold the managed row, because the journal belongs
// to the row's holder.
func (s *certificateStore) DeleteOrder(ctx context.Context, owner, managedID string) error {
	if owner == "" {
		return sqldb.ErrNoOwner
	}
	err := s.Tx(ctx, func(tx *sql.Tx) error {
		n, err := sqldb.Affected(tx.ExecContext(ctx, holdSQL, managedID, owner))
		if err := sqldb.Require(n, err, managed.ErrLost); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `DELETE FROM orders WHERE managed_id = $1`, managedID)
		return err
	})
	return s.Fail(err, "delete order for %s", managedID)
}
