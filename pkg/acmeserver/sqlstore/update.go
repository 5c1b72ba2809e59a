package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"slices"

	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
	"github.com/acmeproxy/acmeproxy/pkg/store/sqldb"
)

const (
	storedSQL = `SELECT version, account_id, replaces, share, issuing, authorized, expires_at FROM acme_orders WHERE id = $1`

	// ExtendOrder may have made the lease longer than the caller knows.
	updateOrderSQL = `UPDATE acme_orders SET status = $3, authorizations = $4, authorized = $5, profile = $6, not_before = $7, not_after = $8,
		error = $9, expires_at = $10, csr = $11, certificate_id = $12, share = $13, key_hash = $14, issuing = $15, state = $16,
		due_at = $17, failures = $18, lease_owner = $19, lease_until = CASE WHEN lease_owner = CAST($19 AS TEXT) AND lease_owner <> ''
			AND lease_until > CAST($20 AS BIGINT) THEN lease_until ELSE CAST($20 AS BIGINT) END, csr_hash = $21, joined = $22, addr = $23, wait_until = $24,
		version = version + 1
		WHERE id = $1 AND version = $2`

	issuingSQL = `SELECT id FROM acme_orders WHERE share = $1 AND share <> '' AND issuing`

	othersSQL = `SELECT id FROM acme_orders WHERE share = $1 AND share <> '' AND status = 'processing' AND NOT issuing LIMIT $2`

	callNextSQL = `UPDATE acme_orders SET due_at = created_at, version = version + 1
		WHERE share = $1 AND share <> '' AND status = 'processing' AND id <> $2`
)

// stored holds the columns of an order that an update depends on.
type stored struct {
	version             int64
	accountID, replaces string
	share               string
	issuing             bool
	held                held
}

func scanStored(row sqldb.Scanner) (o stored, err error) {
	err = row.Scan(&o.version, &o.accountID, &o.replaces, &o.share, &o.issuing, fromJSON(&o.held.names), &o.held.expires)
	return o, err
}

// UpdateOrder implements [acmeserver.Storage].
func (s *Store) UpdateOrder(ctx context.Context, o acmeserver.Order) error {
	return s.updateOrder(ctx, o, nil)
}

// CompleteOrder implements [acmeserver.Storage].
func (s *Store) CompleteOrder(ctx context.Context, o acmeserver.Order, c acmeserver.Certificate) error {
	args, err := certificateArgs(c, o.Share)
	if err != nil {
		return s.fail(err, "complete order %q", o.ID)
	}
	return s.updateOrder(ctx, o, func(ctx context.Context, tx sqldb.Execer) error {
		return insert(ctx, tx, createCertificateSQL, args...)
	})
}

// updateOrder updates an order. more, if it is not nil, runs in the same transaction.
func (s *Store) updateOrder(ctx context.Context, o acmeserver.Order, more func(context.Context, sqldb.Execer) error) error {
	columns, names, err := changing(o)
	if err != nil {
		return s.fail(err, "update order %q", o.ID)
	}
	err = s.write(ctx, func(ctx context.Context, tx sqldb.Execer) error {
		old, err := scanStored(tx.QueryRowContext(ctx, storedSQL, o.ID))
		if err != nil {
			return s.lookup(err, "read")
		}
		if old.version != o.Version {
			return acmeserver.ErrStale
		}
		if err := s.lockTurn(ctx, tx, o, old); err != nil {
			return err
		}
		n, err := sqldb.Affected(tx.ExecContext(ctx, updateOrderSQL, append([]any{o.ID, o.Version}, columns...)...))
		if s.isConflict(err) {
			return acmeserver.ErrTurn
		}
		if err := sqldb.Require(n, err, acmeserver.ErrStale); err != nil { // it changed since we read it
			return err
		}
		o.AccountID, o.Replaces = old.accountID, old.replaces
		if err := settle(ctx, tx, o, old, names); err != nil || more == nil {
			return err
		}
		return more(ctx, tx)
	})
	return s.fail(err, "update order %q", o.ID)
}

// lockTurn makes the others wait that take or end a turn of the same Share, before this
// transaction locks a row. It returns ErrTurn if the order becomes Issuing, and another
// one is. The unique index alone would fill PostgreSQL's log with errors.
func (s *Store) lockTurn(ctx context.Context, tx sqldb.Execer, o acmeserver.Order, old stored) error {
	shares := []string{}
	if old.issuing && (!o.Issuing || o.Share != old.share) && old.share != "" {
		shares = append(shares, old.share)
	}
	takes := o.Issuing && (!old.issuing || o.Share != old.share) && o.Share != ""
	if takes {
		shares = append(shares, o.Share)
	}
	slices.Sort(shares) // so that two transactions do not wait for each other
	for _, share := range shares {
		if err := s.db.LockText(ctx, tx, "acme turns of "+share); err != nil {
			return err
		}
	}
	if !takes {
		return nil
	}
	var id string
	switch err := tx.QueryRowContext(ctx, issuingSQL, o.Share).Scan(&id); {
	case err == nil:
		return acmeserver.ErrTurn
	case !errors.Is(err, sql.ErrNoRows):
		return err
	}
	return nil
}

// settle changes what depends on an order that was updated.
func settle(ctx context.Context, tx sqldb.Execer, o acmeserver.Order, old stored, names []string) error {
	if err := authorize(ctx, tx, o, old.held, names); err != nil {
		return err
	}
	if o.Status == acmeserver.StatusInvalid && o.Replaces != "" {
		if _, err := tx.ExecContext(ctx, giveUpSQL, o.Replaces, o.AccountID, o.ID); err != nil {
			return err
		}
	}
	if old.issuing && (!o.Issuing || o.Share != old.share) {
		return callNext(ctx, tx, old.share, o.ID)
	}
	return nil
}

// callNext makes the orders due that wait until the one with the ID ended its turn.
func callNext(ctx context.Context, tx sqldb.Execer, share, ended string) error {
	if share == "" {
		return nil
	}
	_, err := tx.ExecContext(ctx, callNextSQL, share, ended)
	return err
}
