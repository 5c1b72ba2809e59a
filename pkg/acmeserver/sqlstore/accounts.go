package sqlstore

import (
	"context"
	"errors"

	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
	"github.com/acmeproxy/acmeproxy/pkg/store/sqldb"
)

const (
	accountColumns = `id, thumbprint, key, status, contacts, terms, owner, binding, kid, created_at, version`

	createAccountSQL = `INSERT INTO acme_accounts (` + accountColumns + `)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 1) ON CONFLICT DO NOTHING`
	accountByIDSQL   = `SELECT ` + accountColumns + ` FROM acme_accounts WHERE id = $1`
	accountByKeySQL  = `SELECT ` + accountColumns + ` FROM acme_accounts WHERE thumbprint = $1`
	accountsSQL      = `SELECT COUNT(*) FROM (SELECT 1 FROM acme_accounts WHERE owner = $1 LIMIT CAST($2 AS BIGINT)) AS found`
	updateAccountSQL = `UPDATE acme_accounts SET thumbprint = $3, key = $4, status = $5, contacts = $6, terms = $7, owner = $8,
		binding = $9, kid = $10, version = version + 1 WHERE id = $1 AND version = $2`
)

func scanAccount(row sqldb.Scanner) (a acmeserver.Account, err error) {
	err = row.Scan(&a.ID, &a.Thumbprint, &a.Key, &a.Status, fromJSON(&a.Contacts), &a.Terms, &a.Owner, &a.Binding, &a.Kid,
		sqldb.Time(&a.CreatedAt), &a.Version)
	if len(a.Binding) == 0 {
		a.Binding = nil
	}
	return a, err
}

// CreateAccount implements [acmeserver.Storage].
func (s *Store) CreateAccount(ctx context.Context, a acmeserver.Account, most int) error {
	contacts, err := toJSON(a.Contacts)
	if err != nil {
		return s.fail(err, "create account")
	}
	err = s.write(ctx, func(ctx context.Context, tx sqldb.Execer) error {
		if most > 0 {
			if err := s.db.LockText(ctx, tx, "acme accounts of "+a.Owner); err != nil {
				return err
			}
		}
		if err := insert(ctx, tx, createAccountSQL, a.ID, a.Thumbprint, sqldb.Blob(a.Key), a.Status, contacts, a.Terms, a.Owner,
			sqldb.Blob(a.Binding), a.Kid, sqldb.Millis(a.CreatedAt)); err != nil || most <= 0 {
			return err
		}
		return checkLimit(ctx, tx, most, accountsSQL, a.Owner)
	})
	return s.fail(err, "create account")
}

// AccountByID implements [acmeserver.Storage].
func (s *Store) AccountByID(ctx context.Context, id string) (acmeserver.Account, error) {
	a, err := scanAccount(s.db.Reader().QueryRowContext(ctx, accountByIDSQL, id))
	return a, s.lookup(err, "account %q", id)
}

// AccountByKey implements [acmeserver.Storage].
func (s *Store) AccountByKey(ctx context.Context, thumbprint string) (acmeserver.Account, error) {
	a, err := scanAccount(s.db.Reader().QueryRowContext(ctx, accountByKeySQL, thumbprint))
	return a, s.lookup(err, "account with the key %q", thumbprint)
}

// UpdateAccount implements [acmeserver.Storage].
func (s *Store) UpdateAccount(ctx context.Context, a acmeserver.Account) error {
	contacts, err := toJSON(a.Contacts)
	if err != nil {
		return s.fail(err, "update account %q", a.ID)
	}
	err = s.write(ctx, func(ctx context.Context, tx sqldb.Execer) error {
		n, err := sqldb.Affected(tx.ExecContext(ctx, updateAccountSQL, a.ID, a.Version, a.Thumbprint, sqldb.Blob(a.Key), a.Status, contacts,
			a.Terms, a.Owner, sqldb.Blob(a.Binding), a.Kid))
		if s.isConflict(err) {
			return acmeserver.ErrExists
		}
		return sqldb.Require(n, err, acmeserver.ErrStale)
	})
	if errors.Is(err, acmeserver.ErrStale) {
		if _, e := s.AccountByID(ctx, a.ID); errors.Is(e, acmeserver.ErrNotFound) {
			return e
		}
	}
	return s.fail(err, "update account %q", a.ID)
}
