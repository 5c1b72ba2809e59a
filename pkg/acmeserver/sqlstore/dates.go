package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
	"github.com/acmeproxy/acmeproxy/pkg/store/sqldb"
)

// Times in the future come last in the indexes, so that a page of them is enough. Without
// a wrong clock, nothing is written.
const (
	createdAheadSQL = `SELECT id FROM (SELECT id, status, created_at, due_at, lease_until FROM acme_orders
			WHERE expires_at > $1 ORDER BY expires_at DESC LIMIT $2) AS last
		WHERE created_at > $1 AND (status <> 'processing' OR due_at > $1 OR lease_until > $1)`
	leasedAheadSQL = `SELECT id FROM acme_orders WHERE lease_until > 0 AND lease_until > $1 ORDER BY lease_until DESC LIMIT $2`
	dueAheadSQL    = `SELECT id FROM (SELECT id, due_at, expires_at FROM acme_orders
			WHERE due_at > 0 AND due_at > $1 ORDER BY due_at DESC LIMIT $2) AS last WHERE due_at > expires_at`

	lockOrderSQL    = `SELECT ` + orderColumns + ` FROM acme_orders WHERE id = $1 %s`
	correctOrderSQL = `UPDATE acme_orders SET due_at = $2, lease_owner = $3, lease_until = $4, version = version + 1 WHERE id = $1`
)

// CorrectDates implements [acmeserver.Storage].
func (s *Store) CorrectDates(ctx context.Context, now, latest time.Time, limit int) (int, error) {
	var ids []string
	for _, query := range []string{createdAheadSQL, leasedAheadSQL, dueAheadSQL} {
		rows, err := s.db.Reader().QueryContext(ctx, query, sqldb.Millis(latest), min(limit, purgeBatch))
		found, err := sqldb.Collect(rows, err, func(r sqldb.Scanner) (id string, err error) { return id, r.Scan(&id) })
		if err != nil {
			return 0, s.fail(err, "find orders with wrong dates")
		}
		ids = append(ids, found...)
	}
	if len(ids) == 0 {
		return 0, nil
	}
	var corrected int
	err := s.write(ctx, func(ctx context.Context, tx sqldb.Execer) error {
		corrected = 0 // it may run again
		for _, id := range ids {
			dates, err := s.correctDates(ctx, tx, id, now, latest)
			if err != nil {
				return err
			}
			if dates != acmeserver.DatesRight {
				corrected++
			}
		}
		return nil
	})
	return corrected, s.fail(err, "correct the dates of orders")
}

// correctDates corrects one order, unless it is gone or another transaction has it.
func (s *Store) correctDates(ctx context.Context, tx sqldb.Execer, id string, now, latest time.Time) (acmeserver.Dates, error) {
	o, err := scanOrder(tx.QueryRowContext(ctx, fmt.Sprintf(lockOrderSQL, s.db.SkipLocked()), id))
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return acmeserver.DatesRight, nil
	case err != nil:
		return acmeserver.DatesRight, err
	}
	dates := o.CorrectDates(now, latest)
	switch dates {
	case acmeserver.DatesRight:
	case acmeserver.DatesCorrected:
		_, err = tx.ExecContext(ctx, correctOrderSQL, id, sqldb.Millis(o.DueAt), o.LeaseOwner, sqldb.Millis(o.LeaseUntil))
	case acmeserver.DatesUseless:
		old := expired{id: id, status: o.Status}
		if old.stored, err = scanStored(tx.QueryRowContext(ctx, storedSQL, id)); err == nil {
			err = old.purge(ctx, tx)
		}
	}
	return dates, err
}
