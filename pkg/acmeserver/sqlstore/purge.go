package sqlstore

import (
	"context"
	"fmt"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
	"github.com/acmeproxy/acmeproxy/pkg/store/sqldb"
)

// purgeBatch limits the records that one transaction deletes, since SQLite's writers
// wait for each other.
const purgeBatch = 100

const (
	oldOrdersSQL = `SELECT id, status, version, account_id, replaces, share, issuing, authorized, expires_at FROM acme_orders
		WHERE expires_at < $1 ORDER BY expires_at LIMIT $2 %s`
	deleteOrderSQL = `DELETE FROM acme_orders WHERE id = $1`

	purgeCertificatesSQL = `WITH old AS MATERIALIZED (SELECT id FROM acme_certificates WHERE not_after < $1 ORDER BY not_after LIMIT $2 %s)
		DELETE FROM acme_certificates WHERE id IN (SELECT id FROM old)`

	purgeAccountsSQL = `WITH old AS MATERIALIZED (SELECT id FROM acme_accounts
		WHERE status = 'deactivated' AND created_at < $1 ORDER BY created_at LIMIT $2 %s)
		DELETE FROM acme_accounts WHERE id IN (SELECT id FROM old)`
)

// Purge implements [acmeserver.Storage].
func (s *Store) Purge(ctx context.Context, before time.Time, limit int) (bool, error) {
	moreOrders, err := s.inBatches(limit, func(limit int) (int64, error) { return s.purgeOrders(ctx, before, limit) })
	if err != nil {
		return false, s.fail(err, "purge orders")
	}
	more, err := s.inBatches(limit, func(limit int) (int64, error) { return s.purge(ctx, purgeCertificatesSQL, before, limit) })
	if err != nil {
		return false, s.fail(err, "purge certificates")
	}
	moreAccounts, err := s.inBatches(limit, func(limit int) (int64, error) { return s.purge(ctx, purgeAccountsSQL, before, limit) })
	return more || moreOrders || moreAccounts, s.fail(err, "purge accounts")
}

// inBatches calls purge, which returns how many records it deleted, until it deleted
// fewer than it could or all calls together deleted limit. It reports whether there may
// be more.
func (s *Store) inBatches(limit int, purge func(limit int) (int64, error)) (more bool, err error) {
	for limit > 0 {
		batch := min(limit, purgeBatch)
		n, err := purge(batch)
		if err != nil || n < int64(batch) {
			return false, err
		}
		limit -= batch
	}
	return true, nil
}

// purge runs a statement that deletes at most limit rows, and returns their number.
func (s *Store) purge(ctx context.Context, query string, before time.Time, limit int) (n int64, err error) {
	err = s.write(ctx, func(ctx context.Context, tx sqldb.Execer) error {
		n, err = sqldb.Affected(tx.ExecContext(ctx, fmt.Sprintf(query, s.db.SkipLocked()), sqldb.Millis(before), limit))
		return err
	})
	return n, err
}

// expired is an order that is purged.
type expired struct {
	stored
	id     string
	status acmeserver.Status
}

// purgeOrders deletes at most limit orders with what belongs to them.
func (s *Store) purgeOrders(ctx context.Context, before time.Time, limit int) (n int64, err error) {
	err = s.write(ctx, func(ctx context.Context, tx sqldb.Execer) error {
		rows, err := tx.QueryContext(ctx, fmt.Sprintf(oldOrdersSQL, s.db.SkipLocked()), sqldb.Millis(before), limit)
		old, err := sqldb.Collect(rows, err, func(r sqldb.Scanner) (o expired, err error) {
			err = r.Scan(&o.id, &o.status, &o.version, &o.accountID, &o.replaces, &o.share, &o.issuing, fromJSON(&o.held.names), &o.held.expires)
			return o, err
		})
		if err != nil {
			return err
		}
		for _, o := range old {
			if err := o.purge(ctx, tx); err != nil {
				return err
			}
		}
		n = int64(len(old))
		return nil
	})
	return n, err
}

// purge deletes the order. Its certificate may be replaced by another order, unless it
// was valid, and the next order of its Share has its turn.
func (o *expired) purge(ctx context.Context, tx sqldb.Execer) error {
	if _, err := tx.ExecContext(ctx, deleteOrderSQL, o.id); err != nil {
		return err
	}
	gone := acmeserver.Order{ID: o.id, AccountID: o.accountID, Replaces: o.replaces, Status: acmeserver.StatusInvalid}
	if o.status == acmeserver.StatusValid {
		gone.Replaces = ""
	}
	return settle(ctx, tx, gone, o.stored, nil)
}
