package sqlstore

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
	"github.com/acmeproxy/acmeproxy/pkg/store/sqldb"
)

// errNoOwner means that a lease was requested without an owner.
var errNoOwner = errors.New("the lease's owner is empty")

const (
	// manyDue is the number of due orders above which dueOrders does not read all.
	manyDue = 256
	// maxDueOwners limits the number of owners whose earliest order is read then.
	maxDueOwners = 4096
	// maxClaimed limits the orders of one claim, since each is a placeholder.
	maxClaimed = 500
	// claimAttempts limits the attempts to claim orders that other instances claim, too.
	claimAttempts = 100
)

const (
	duePageSQL = `SELECT id, owner, due_at FROM acme_orders WHERE due_at > 0 AND due_at <= $1 AND lease_until <= $1 ORDER BY due_at LIMIT CAST($2 AS BIGINT)`

	// dueOfOwnersSQL steps from owner to owner in the index. Its cost does not depend on
	// the number of rows of each.
	dueOfOwnersSQL = `WITH RECURSIVE w(owner) AS (
		SELECT owner FROM (SELECT owner FROM acme_orders WHERE due_at > 0 ORDER BY owner LIMIT 1) AS first
		UNION ALL SELECT (SELECT o.owner FROM acme_orders AS o WHERE o.due_at > 0 AND o.owner > w.owner ORDER BY o.owner LIMIT 1)
		FROM w WHERE w.owner IS NOT NULL)
		SELECT d.id, d.owner, o.due_at FROM (SELECT (SELECT o.id FROM acme_orders AS o
			WHERE o.owner = w.owner AND o.due_at > 0 AND o.due_at <= $1 AND o.lease_until <= $1
			ORDER BY o.owner, o.due_at LIMIT 1) AS id, owner FROM w) AS d JOIN acme_orders AS o ON o.id = d.id LIMIT CAST($2 AS BIGINT)`

	// The + keeps SQLite from the index of due orders, of which there may be more.
	leasedSQL = `SELECT owner FROM acme_orders WHERE lease_until > 0 AND lease_until > $1 AND +due_at > 0`

	// The first %s is a list of ids, the second is DB.SkipLocked.
	claimSQL = `WITH due AS MATERIALIZED (SELECT id FROM acme_orders
		WHERE id IN (%s) AND due_at > 0 AND due_at <= $1 AND lease_until <= $1 %s)
		UPDATE acme_orders SET lease_owner = $2, lease_until = $3, version = version + 1 WHERE id IN (SELECT id FROM due) RETURNING ` + orderColumns

	extendSQL = `UPDATE acme_orders SET lease_until = $3 WHERE id = $1 AND lease_owner = $2`

	freeLeasesSQL = `UPDATE acme_orders SET lease_owner = '', lease_until = 0, version = version + 1 WHERE lease_until > 0`

	nextDueSQL      = `SELECT due_at FROM acme_orders WHERE due_at > 0 AND lease_until <= $1 ORDER BY due_at LIMIT 1`
	nextLeaseEndSQL = `SELECT CASE WHEN due_at > lease_until THEN due_at ELSE lease_until END FROM acme_orders
		WHERE lease_until > 0 AND lease_until > $1 AND +due_at > 0`
)

// dueOrder is an order that may be claimed.
type dueOrder struct {
	id, owner string
	at        int64
	turn      int // how many of the owner's are leased or come before
}

// ClaimOrders implements [acmeserver.Storage].
func (s *Store) ClaimOrders(ctx context.Context, owner string, now, until time.Time, limit int) ([]acmeserver.Order, error) {
	if owner == "" {
		return nil, s.fail(errNoOwner, "claim orders")
	}
	for range claimAttempts {
		due, err := s.dueOrders(ctx, now)
		if err != nil {
			return nil, s.fail(err, "find due orders")
		}
		due = due[:min(len(due), limit, maxClaimed)]
		if len(due) == 0 {
			return nil, nil
		}
		claimed, err := s.claim(ctx, owner, now, until, due)
		if err != nil || len(claimed) > 0 {
			return claimed, s.fail(err, "claim orders")
		}
	}
	return nil, nil
}

// dueOrders returns orders that may be claimed, of the owners in turn.
func (s *Store) dueOrders(ctx context.Context, now time.Time) ([]dueOrder, error) {
	page, err := s.dueRows(ctx, duePageSQL, now, manyDue)
	if err != nil || len(page) == 0 {
		return nil, err
	}
	if len(page) == manyDue {
		firsts, err := s.dueRows(ctx, dueOfOwnersSQL, now, maxDueOwners)
		if err != nil {
			return nil, err
		}
		page = append(page, firsts...)
	}
	rows, err := s.db.Reader().QueryContext(ctx, leasedSQL, sqldb.Millis(now))
	leased, err := sqldb.Collect(rows, err, func(r sqldb.Scanner) (owner string, err error) { return owner, r.Scan(&owner) })
	return inTurns(page, leased), err
}

func (s *Store) dueRows(ctx context.Context, query string, now time.Time, limit int) ([]dueOrder, error) {
	rows, err := s.db.Reader().QueryContext(ctx, query, sqldb.Millis(now), limit)
	return sqldb.Collect(rows, err, func(r sqldb.Scanner) (d dueOrder, err error) { return d, r.Scan(&d.id, &d.owner, &d.at) })
}

// inTurns sorts orders by their turns and removes duplicates. leased holds the owner of
// each order that has a lease.
func inTurns(due []dueOrder, leased []string) []dueOrder {
	slices.SortFunc(due, func(a, b dueOrder) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.id, b.id)) })
	due = slices.Compact(due) // before it has turns
	turns := map[string]int{}
	for _, owner := range leased {
		turns[owner]++
	}
	for i := range due {
		due[i].turn = turns[due[i].owner]
		turns[due[i].owner]++
	}
	slices.SortStableFunc(due, func(a, b dueOrder) int { return cmp.Compare(a.turn, b.turn) })
	return due
}

// claim leases those of the orders that are still free, and returns them in their order.
func (s *Store) claim(ctx context.Context, owner string, now, until time.Time, due []dueOrder) ([]acmeserver.Order, error) {
	args := []any{sqldb.Millis(now), owner, sqldb.Millis(until)}
	var list strings.Builder
	place := map[string]int{}
	for i, d := range due {
		args = append(args, d.id)
		fmt.Fprintf(&list, ", $%d", i+4)
		place[d.id] = i
	}
	query := fmt.Sprintf(claimSQL, list.String()[2:], s.db.SkipLocked()) //nolint:gosec // placeholders only
	var claimed []acmeserver.Order
	err := s.db.Grouped(ctx, func(ctx context.Context, tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, query, args...)
		claimed, err = sqldb.Collect(rows, err, scanOrder)
		return err
	})
	if err != nil { // perhaps of the commit, after the rows were returned
		return nil, err
	}
	slices.SortFunc(claimed, func(a, b acmeserver.Order) int { return cmp.Compare(place[a.ID], place[b.ID]) })
	return claimed, nil
}

// ExtendOrder implements [acmeserver.Storage].
func (s *Store) ExtendOrder(ctx context.Context, id, owner string, until time.Time) error {
	if owner == "" {
		return s.fail(acmeserver.ErrStale, "extend the lease of order %q", id)
	}
	err := s.write(ctx, func(ctx context.Context, tx sqldb.Execer) error {
		n, err := sqldb.Affected(tx.ExecContext(ctx, extendSQL, id, owner, sqldb.Millis(until)))
		return sqldb.Require(n, err, acmeserver.ErrStale)
	})
	if e := s.lookup(err, "extend"); errors.Is(e, acmeserver.ErrNotFound) { // the id is not text
		err = acmeserver.ErrStale
	}
	return s.fail(err, "extend the lease of order %q", id)
}

// NextOrder implements [acmeserver.Storage].
func (s *Store) NextOrder(ctx context.Context, now time.Time) (time.Time, error) {
	var first time.Time
	for _, query := range []string{nextDueSQL, nextLeaseEndSQL} {
		rows, err := s.db.Reader().QueryContext(ctx, query, sqldb.Millis(now))
		times, err := sqldb.Collect(rows, err, func(r sqldb.Scanner) (t time.Time, err error) { return t, r.Scan(sqldb.Time(&t)) })
		if err != nil {
			return time.Time{}, s.fail(err, "next due order")
		}
		for _, t := range times {
			if first.IsZero() || t.Before(first) {
				first = t
			}
		}
	}
	if first.IsZero() {
		return first, s.fail(acmeserver.ErrNotFound, "next due order")
	}
	return first, nil
}

// FreeLeases ends all leases and leaves the orders due. It is for the only process on a
// database when it starts: the former holders have ended then, and to wait for the end
// of their leases would lose time.
func (s *Store) FreeLeases(ctx context.Context) error {
	err := s.write(ctx, func(ctx context.Context, tx sqldb.Execer) error {
		_, err := tx.ExecContext(ctx, freeLeasesSQL)
		return err
	})
	return s.fail(err, "free the leases of orders")
}
