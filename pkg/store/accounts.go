package store

import (
	"context"
	"database/sql"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
)

const accountByDirectorySQL = `SELECT directory_url, url, email, sealed_key, created_at FROM accounts WHERE directory_url = $1`

func scanAccount(row scanner) (a acme.Account, err error) {
	err = row.Scan(&a.DirectoryURL, &a.URL, &a.Email, &a.SealedKey, moment{&a.CreatedAt})
	return a, err
}

// AccountByDirectory returns the account for a CA, or [managed.ErrNotFound].
func (s *Store) AccountByDirectory(ctx context.Context, directoryURL string) (acme.Account, error) {
	a, err := scanAccount(s.read.QueryRowContext(ctx, accountByDirectorySQL, directoryURL))
	return a, s.fail(err, "account for %s", directoryURL)
}

// CreateAccount stores a unless there is an account for its directory already,
// and returns the row that is stored: the first writer wins, so that instances
// that start together end up with one key.
func (s *Store) CreateAccount(ctx context.Context, a acme.Account) (acme.Account, error) {
	var stored acme.Account
	err := s.tx(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO accounts (directory_url, url, email, sealed_key, created_at)
			VALUES ($1, $2, $3, $4, $5) ON CONFLICT (directory_url) DO NOTHING`,
			a.DirectoryURL, a.URL, a.Email, blob(a.SealedKey), millis(s.now()))
		if err != nil {
			return err
		}
		stored, err = scanAccount(tx.QueryRowContext(ctx, accountByDirectorySQL, a.DirectoryURL))
		return err
	})
	return stored, s.fail(err, "create account for %s", a.DirectoryURL)
}

// SetAccountURL records what the CA answered to the registration.
func (s *Store) SetAccountURL(ctx context.Context, directoryURL, url, email string) error {
	n, err := s.exec(ctx, `UPDATE accounts SET url = $2, email = $3 WHERE directory_url = $1`, directoryURL, url, email)
	return s.fail(must(n, err, managed.ErrNotFound), "set account URL for %s", directoryURL)
}
