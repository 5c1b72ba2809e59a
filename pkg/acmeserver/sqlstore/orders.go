package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/store/sqldb"
)

const (
	orderColumns = `id, account_id, owner, status, identifiers, authorizations, profile, not_before, not_after, replaces, error,
		created_at, expires_at, csr, certificate_id, share, key_hash, issuing, state, due_at, failures, lease_owner, lease_until,
		csr_hash, joined, addr, wait_until, version`

	createOrderSQL = `INSERT INTO acme_orders (id, account_id, owner, identifiers, replaces, created_at, status, authorizations, authorized,
		profile, not_before, not_after, error, expires_at, csr, certificate_id, share, key_hash, issuing, state, due_at, failures,
		lease_owner, lease_until, csr_hash, joined, addr, wait_until, version) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20,
		$21, $22, $23, $24, $25, $26, $27, $28, 1) ON CONFLICT (id) DO NOTHING`

	orderSQL      = `SELECT ` + orderColumns + ` FROM acme_orders WHERE id = $1`
	openOrdersSQL = `SELECT COUNT(*) FROM (SELECT 1 FROM acme_orders
		WHERE owner = $1 AND (status <> 'valid' OR joined) AND expires_at > $2 LIMIT CAST($3 AS BIGINT)) AS found`

	orderTimeSQL  = `SELECT created_at FROM acme_orders WHERE id = $1 AND account_id = $2`
	listOrdersSQL = `SELECT id FROM acme_orders WHERE account_id = $1 AND status <> 'invalid' AND (created_at, id) < ($2, $3)
		ORDER BY created_at DESC, id DESC LIMIT $4`

	// An order that is not stored any more was valid: purgeOrder makes the others give
	// the certificate up.
	replaceSQL = `UPDATE acme_certificates SET replaced_by = $3 WHERE ari_id = $1 AND ari_id <> '' AND account_id = $2
		AND (replaced_by = '' OR EXISTS (SELECT 1 FROM acme_orders AS o
			WHERE o.id = acme_certificates.replaced_by AND o.status <> 'valid' AND o.expires_at <= $4))`
	replacedSQL = `SELECT COUNT(*) FROM acme_certificates WHERE ari_id = $1 AND ari_id <> '' AND account_id = $2`
	giveUpSQL   = `UPDATE acme_certificates SET replaced_by = '' WHERE ari_id = $1 AND ari_id <> '' AND account_id = $2 AND replaced_by = $3`

	authorizeSQL   = `INSERT INTO acme_authorized (account_id, identifier, expires_at, order_id) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`
	unauthorizeSQL = `DELETE FROM acme_authorized WHERE account_id = $1 AND identifier = $2 AND expires_at = $3 AND order_id = $4`
	authorizedSQL  = `SELECT order_id FROM acme_authorized WHERE account_id = $1 AND identifier = $2 AND expires_at > $3 LIMIT 1`
)

func scanOrder(row sqldb.Scanner) (o acmeserver.Order, err error) {
	var addr string
	err = row.Scan(&o.ID, &o.AccountID, &o.Owner, &o.Status, fromJSON(&o.Identifiers), fromJSON(&o.Authorizations), &o.Profile,
		sqldb.Time(&o.NotBefore), sqldb.Time(&o.NotAfter), &o.Replaces, fromJSON(&o.Error), sqldb.Time(&o.CreatedAt), sqldb.Time(&o.Expires),
		&o.CSR, &o.CertificateID, &o.Share, &o.KeyHash, &o.Issuing, &o.State, sqldb.Time(&o.DueAt), &o.Failures,
		&o.LeaseOwner, sqldb.Time(&o.LeaseUntil), &o.CSRHash, &o.Joined, &addr, sqldb.Time(&o.WaitUntil), &o.Version)
	if len(o.CSR) == 0 {
		o.CSR = nil
	}
	if len(o.State) == 0 {
		o.State = nil
	}
	if addr != "" && err == nil {
		o.Addr, err = netip.ParseAddr(addr)
	}
	return o, err
}

// changing returns the columns that an update changes, from status on, and the names
// that are authorized.
func changing(o acmeserver.Order) (columns []any, names []string, err error) {
	names = authorizedBy(o)
	authorizations, err1 := toJSON(o.Authorizations)
	authorized, err2 := toJSON(names)
	problem := ""
	var err3 error
	if o.Error != nil {
		problem, err3 = toJSON(o.Error)
	}
	return []any{
		o.Status, authorizations, authorized, o.Profile, sqldb.Millis(o.NotBefore), sqldb.Millis(o.NotAfter), problem, sqldb.Millis(o.Expires),
		sqldb.Blob(o.CSR), o.CertificateID, o.Share, o.KeyHash, o.Issuing, sqldb.Blob(o.State), sqldb.Millis(o.DueAt), o.Failures,
		o.LeaseOwner, sqldb.Millis(o.LeaseUntil), o.CSRHash, o.Joined, addressText(o.Addr), sqldb.Millis(o.WaitUntil),
	}, names, errors.Join(err1, err2, err3)
}

// addressText returns the column's form of an address.
func addressText(addr netip.Addr) string {
	if !addr.IsValid() {
		return ""
	}
	return addr.String()
}

// authorizedBy returns the names of the valid authorizations.
func authorizedBy(o acmeserver.Order) []string {
	names := []string{}
	for _, a := range o.Authorizations {
		if a.Status == acmeserver.StatusValid {
			names = append(names, a.Name())
		}
	}
	return names
}

// CreateOrder implements [acmeserver.Storage]. The next change of the order writes it to
// the disk, too.
func (s *Store) CreateOrder(ctx context.Context, o acmeserver.Order, most int) error {
	columns, names, err1 := changing(o)
	identifiers, err2 := toJSON(o.Identifiers)
	if err := errors.Join(err1, err2); err != nil {
		return s.fail(err, "create order")
	}
	args := append([]any{o.ID, o.AccountID, o.Owner, identifiers, o.Replaces, sqldb.Millis(o.CreatedAt)}, columns...)
	err := s.writeUnsynced(ctx, func(ctx context.Context, tx sqldb.Execer) error {
		if most > 0 {
			if err := s.db.LockText(ctx, tx, "acme orders of "+o.Owner); err != nil {
				return err
			}
		}
		if o.Replaces != "" {
			if err := s.replace(ctx, tx, o); err != nil {
				return err
			}
		}
		err := insert(ctx, tx, createOrderSQL, args...)
		if s.isConflict(err) {
			return acmeserver.ErrTurn
		}
		if err == nil {
			err = authorize(ctx, tx, o, held{}, names)
		}
		if err == nil && most > 0 {
			err = checkLimit(ctx, tx, most, openOrdersSQL, o.Owner, sqldb.Millis(o.CreatedAt))
		}
		return err
	})
	return s.fail(err, "create order")
}

// replace marks the certificates that an order replaces.
func (s *Store) replace(ctx context.Context, tx sqldb.Execer, o acmeserver.Order) error {
	marked, err := sqldb.Affected(tx.ExecContext(ctx, replaceSQL, o.Replaces, o.AccountID, o.ID, sqldb.Millis(o.CreatedAt)))
	if err != nil {
		if errors.Is(s.db.Fail(err, "replace"), managed.ErrNotText) {
			return acmeserver.ErrNotFound
		}
		return err
	}
	var all int64
	if err := tx.QueryRowContext(ctx, replacedSQL, o.Replaces, o.AccountID).Scan(&all); err != nil {
		return err
	}
	switch {
	case all == 0:
		return acmeserver.ErrNotFound
	case marked < all:
		return acmeserver.ErrReplaced
	}
	return nil
}

// held describes the rows of acme_authorized of an order.
type held struct {
	names   []string
	expires int64
}

// authorize makes acme_authorized hold the names until the order expires, and removes
// the others that it held.
func authorize(ctx context.Context, tx sqldb.Execer, o acmeserver.Order, before held, names []string) error {
	expires := sqldb.Millis(o.Expires)
	keep := func(name string, others []string) bool {
		return expires == before.expires && slices.Contains(others, name)
	}
	for _, name := range before.names {
		if keep(name, names) {
			continue
		}
		if _, err := tx.ExecContext(ctx, unauthorizeSQL, o.AccountID, name, before.expires, o.ID); err != nil {
			return err
		}
	}
	for _, name := range names {
		if keep(name, before.names) {
			continue
		}
		if _, err := tx.ExecContext(ctx, authorizeSQL, o.AccountID, name, expires, o.ID); err != nil {
			return err
		}
	}
	return nil
}

// Authorized implements [acmeserver.Storage].
func (s *Store) Authorized(ctx context.Context, accountID string, identifiers []string, now time.Time) (bool, error) {
	for _, name := range identifiers {
		found, err := s.db.Finds(ctx, authorizedSQL, accountID, name, sqldb.Millis(now))
		if err != nil {
			if err = s.lookup(err, "authorizations of %q", accountID); errors.Is(err, acmeserver.ErrNotFound) {
				err = nil
			}
			return false, err
		}
		if !found {
			return false, nil
		}
	}
	return len(identifiers) > 0, nil
}

// Order implements [acmeserver.Storage].
func (s *Store) Order(ctx context.Context, id string) (acmeserver.Order, error) {
	o, err := scanOrder(s.db.Reader().QueryRowContext(ctx, orderSQL, id))
	return o, s.lookup(err, "order %q", id)
}

// OrdersByShare implements [acmeserver.Storage].
func (s *Store) OrdersByShare(ctx context.Context, share string, limit int) (issuing string, others []string, err error) {
	err = s.db.Reader().QueryRowContext(ctx, issuingSQL, share).Scan(&issuing)
	if err == nil || errors.Is(err, sql.ErrNoRows) {
		var rows *sql.Rows
		rows, err = s.db.Reader().QueryContext(ctx, othersSQL, share, limit)
		others, err = sqldb.Collect(rows, err, func(r sqldb.Scanner) (id string, err error) { return id, r.Scan(&id) })
	}
	if err = s.lookup(err, "orders that share %q", share); errors.Is(err, acmeserver.ErrNotFound) {
		err = nil
	}
	return issuing, others, err
}

// OrdersByAccount implements [acmeserver.Storage].
func (s *Store) OrdersByAccount(ctx context.Context, accountID, after string, limit int) ([]string, error) {
	last := int64(math.MaxInt64)
	var ids []string
	var err error
	if after != "" {
		err = s.db.Reader().QueryRowContext(ctx, orderTimeSQL, after, accountID).Scan(&last)
	}
	if err == nil {
		var rows *sql.Rows
		rows, err = s.db.Reader().QueryContext(ctx, listOrdersSQL, accountID, last, after, limit)
		ids, err = sqldb.Collect(rows, err, func(r sqldb.Scanner) (id string, err error) { return id, r.Scan(&id) })
	}
	if err = s.lookup(err, "orders of %q", accountID); errors.Is(err, acmeserver.ErrNotFound) {
		err = nil
	}
	return ids, err
}
