package store

import (
	"context"
	"database/sql"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/store/sqldb"
)

const accountByDirectorySQL = `SELECT directory_url, url, email, sealed_key, created_at FROM accounts WHERE directory_url = $1`

func scanAccount(row sqldb.Scanner) (a acme.Account, err error) {
	err = row.Scan(&a.DirectoryURL, &a.URL, &a.Email, &a.SealedKey, sqldb.Time(&a.CreatedAt))
	return a, err
}

// AccountByDirectory returns the account for a CA, or [managed.ErrNotFound].
func (s *accountStore) AccountByDirectory(ctx context.Context, directoryURL string) (acme.Account, error) {
	a, err := scanAccount(s.Reader().QueryRowContext(ctx, accountByDirectorySQL, directoryURL))
	return a, s.Fail(err, "account for %s", directoryURL)
}

// CreateAccount stores a unless its directory has an account already, and returns the
// stored row. The first writer wins, so that instances that start together use one key.
func (s *accountStore) CreateAccount(ctx context.Context, a acme.Account) (acme.Account, error) {
	var stored acme.Account
	err := s.Tx(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO accounts (directory_url, url, email, sealed_key, created_at)
			VALUES ($1, $2, $3, $4, $5) ON CONFLICT (directory_url) DO NOTHING`,
			a.DirectoryURL, a.URL, a.Email, sqldb.Blob(a.SealedKey), sqldb.Millis(s.Now()))
		if err != nil {
			return err
		}
		stored, err = scanAccount(tx.QueryRowContext(ctx, accountByDirectorySQL, a.DirectoryURL))
		return err
	})
	return stored, s.Fail(err, "create account for %s", a.DirectoryURL)
}

// SetAccountURL records the CA's answer to the registration.
func (s *accountStore) SetAccountURL(ctx context.Context, directoryURL, url, email string) error {
	n, err := s.Exec(ctx, `UPDATE accounts SET url = $2, email = $3 WHERE directory_url = $1`, directoryURL, url, email)
	return s.Fail(sqldb.Require(n, err, managed.ErrNotFound), "set account URL for %s", directoryURL)
}
