package store

import (
	"context"
	"database/sql"

	"github.com/acmeproxy/acmeproxy/pkg/managed"
)

// holdSQL locks the managed row until the transaction ends, if it is the owner's.
const holdSQL = `UPDATE managed SET lease_owner = lease_owner WHERE id = $1 AND lease_owner = $2`

// SaveOrder journals an order while owner holds the managed row, else
// [managed.ErrLost]. It replaces an older order for the row.
func (s *Store) SaveOrder(ctx context.Context, owner string, o managed.Order) error {
	if owner == "" {
		return errNoOwner
	}
	err := s.tx(ctx, func(tx *sql.Tx) error {
		// The row stays locked until the order is in.
		n, err := affected(tx.ExecContext(ctx, holdSQL, o.ManagedID, owner))
		if err := must(n, err, managed.ErrLost); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO orders (managed_id, directory_url, order_url, csr, sealed_key, created_at)
			VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (managed_id) DO UPDATE SET directory_url = excluded.directory_url,
			order_url = excluded.order_url, csr = excluded.csr, sealed_key = excluded.sealed_key, created_at = excluded.created_at`,
			o.ManagedID, o.CA, o.URL, blob(o.CSR), blob(o.SealedKey), millis(s.now()))
		return err
	})
	return s.fail(err, "save order for %s", o.ManagedID)
}

// OrderFor returns the order begun for a managed certificate, or [managed.ErrNotFound].
func (s *Store) OrderFor(ctx context.Context, managedID string) (managed.Order, error) {
	var o managed.Order
	err := s.read.QueryRowContext(ctx, `SELECT managed_id, directory_url, order_url, csr, sealed_key, created_at
		FROM orders WHERE managed_id = $1`, managedID).Scan(&o.ManagedID, &o.CA, &o.URL, &o.CSR, &o.SealedKey,
		moment{&o.CreatedAt})
	if len(o.SealedKey) == 0 {
		o.SealedKey = nil
	}
	return o, s.fail(err, "order for %s", managedID)
}

// DeleteOrder forgets the order begun for a managed certificate, if any, while
// owner holds the managed row, else [managed.ErrLost]: the journal is whoever's who
// works on the row.
func (s *Store) DeleteOrder(ctx context.Context, owner, managedID string) error {
	if owner == "" {
		return errNoOwner
	}
	err := s.tx(ctx, func(tx *sql.Tx) error {
		n, err := affected(tx.ExecContext(ctx, holdSQL, managedID, owner))
		if err := must(n, err, managed.ErrLost); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `DELETE FROM orders WHERE managed_id = $1`, managedID)
		return err
	})
	return s.fail(err, "delete order for %s", managedID)
}
