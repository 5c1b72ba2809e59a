package store

import (
	"context"
	"database/sql"
	"time"
)

// Account is an account with an upstream CA; there is one for each directory.
type Account struct {
	DirectoryURL string    // key of the row
	URL          string    // account URL; empty until the CA has registered the key
	Email        string    // contact; empty when none was given
	SealedKey    []byte    // private key, sealed by the caller
	CreatedAt    time.Time // set by the store
}

const accountByDirectorySQL = `SELECT directory_url, url, email, sealed_key, created_at FROM accounts WHERE directory_url = $1`

func scanAccount(row scanner) (a Account, err error) {
	err = row.Scan(&a.DirectoryURL, &a.URL, &a.Email, &a.SealedKey, moment{&a.CreatedAt})
	return a, err
}

// AccountByDirectory returns the account for a CA, or [ErrNotFound].
func (s *Store) AccountByDirectory(ctx context.Context, directoryURL string) (Account, error) {
	a, err := scanAccount(s.read.QueryRowContext(ctx, accountByDirectorySQL, directoryURL))
	return a, s.fail(err, "account for %s", directoryURL)
}

// CreateAccount stores a unless there is an account for its directory already,
// and returns the row that is stored: the first writer wins, so that instances
// that start together end up with one key.
func (s *Store) CreateAccount(ctx context.Context, a Account) (Account, error) {
	var stored Account
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
	return s.fail(must(n, err, ErrNotFound), "set account URL for %s", directoryURL)
}
