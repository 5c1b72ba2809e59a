package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/store/sqldb"
)

const credentialColumns = `id, client_id, kind, verifier, created_at, expires_at, networks, kid, last_used, last_from`

func scanCredential(row sqldb.Scanner) (c clients.Credential, err error) {
	err = row.Scan(&c.ID, &c.ClientID, &c.Kind, &c.Verifier, sqldb.Time(&c.CreatedAt), sqldb.Time(&c.ExpiresAt), sqldb.List(&c.Networks),
		&c.Kid, sqldb.Time(&c.LastUsed), &c.LastFrom)
	return c, err
}

func insertCredential(ctx context.Context, tx *sql.Tx, now time.Time, c clients.Credential) (clients.Credential, error) {
	if err := c.Validate(); err != nil {
		return clients.Credential{}, err
	}
	networks, err := sqldb.Lines("networks", c.Networks)
	if err != nil {
		return clients.Credential{}, err
	}
	return scanCredential(tx.QueryRowContext(ctx, `INSERT INTO credentials (id, client_id, kind, verifier, created_at, expires_at, networks, kid)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING `+credentialColumns,
		sqldb.NewID(), c.ClientID, string(c.Kind), c.Verifier, sqldb.Millis(now), sqldb.Millis(c.ExpiresAt), networks, c.Kid))
}

// AddCredential adds a credential to a client, and removes the client's expired
// enrolment secrets. It returns [managed.ErrNotFound] for an unknown client, and
// [managed.ErrConflict] if the credential is registered already.
func (s *credentialStore) AddCredential(ctx context.Context, c clients.Credential) (clients.Credential, error) {
	var added clients.Credential
	err := s.Tx(ctx, func(tx *sql.Tx) error {
		if c.ClientID == "" {
			return managed.ErrNotFound
		}
		if err := lockClient(ctx, tx, c.ClientID); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM credentials
			WHERE client_id = $1 AND kind = $2 AND expires_at > 0 AND expires_at <= $3`,
			c.ClientID, string(clients.Enrolment), sqldb.Millis(s.Now())); err != nil {
			return err
		}
		var err error
		added, err = insertCredential(ctx, tx, s.Now(), c)
		return err
	})
	if err != nil {
		return clients.Credential{}, s.Fail(err, "add credential to client %s", c.ClientID)
	}
	return added, nil
}

// ReplaceACME adds a credential of the ACME door to a client, and removes the client's
// other credentials of these kinds, in one transaction. It returns both. Errors are those
// of AddCredential.
func (s *credentialStore) ReplaceACME(ctx context.Context, c clients.Credential) (added clients.Credential, removed []clients.Credential, err error) {
	err = s.Tx(ctx, func(tx *sql.Tx) error {
		if c.ClientID == "" {
			return managed.ErrNotFound
		}
		if err := lockClient(ctx, tx, c.ClientID); err != nil {
			return err
		}
		rows, err := tx.QueryContext(ctx, deleteACMESQL, c.ClientID)
		if removed, err = sqldb.Collect(rows, err, scanCredential); err != nil {
			return err
		}
		added, err = insertCredential(ctx, tx, s.Now(), c)
		return err
	})
	return added, removed, s.Fail(err, "replace the ACME credentials of client %s", c.ClientID)
}

var deleteACMESQL = `DELETE FROM credentials WHERE client_id = $1 AND kind IN (` + acmeKinds() + `) RETURNING ` + credentialColumns //nolint:gosec // constants

// acmeKinds returns the constants as a list in SQL.
func acmeKinds() string {
	var quoted []string
	for _, k := range clients.ACMEKinds() {
		quoted = append(quoted, "'"+string(k)+"'")
	}
	return strings.Join(quoted, ", ")
}

const moveACMEKeySQL = `UPDATE credentials SET verifier = $3 WHERE client_id = $1 AND verifier = $2 AND kind = '` + string(clients.ACMEKey) + `'`

// MoveACMEKey makes a client's credential for one account key a credential for another
// key, so that the old key is worth nothing any more. If the client has a credential for
// the new key already, the old one is removed. It is no error if no credential of the
// client has the old key. It returns [managed.ErrConflict] if the new key is registered
// for another client.
func (s *credentialStore) MoveACMEKey(ctx context.Context, clientID string, from, to []byte) error {
	err := s.Tx(ctx, func(tx *sql.Tx) error {
		if err := lockClient(ctx, tx, clientID); err != nil {
			return err
		}
		var owner string
		err := tx.QueryRowContext(ctx, `SELECT client_id FROM credentials WHERE kind = $1 AND verifier = $2`, string(clients.ACMEKey), to).Scan(&owner)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			_, err = tx.ExecContext(ctx, moveACMEKeySQL, clientID, from, to)
		case err == nil && owner == clientID:
			_, err = tx.ExecContext(ctx, `DELETE FROM credentials WHERE client_id = $1 AND verifier = $2 AND kind = $3`, clientID, from, string(clients.ACMEKey))
		case err == nil:
			var n int
			err = tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM credentials WHERE client_id = $1 AND verifier = $2 AND kind = $3`, clientID, from, string(clients.ACMEKey)).Scan(&n)
			if err == nil && n > 0 {
				err = managed.ErrConflict
			}
		}
		return err
	})
	return s.Fail(err, "move a credential of client %s to another account key", clientID)
}

// RemoveCredential removes one credential of a client and returns it. It returns
// [managed.ErrNotFound] if the client has no such credential.
func (s *credentialStore) RemoveCredential(ctx context.Context, clientID, id string) (clients.Credential, error) {
	var removed clients.Credential
	err := s.Tx(ctx, func(tx *sql.Tx) (err error) {
		removed, err = scanCredential(tx.QueryRowContext(ctx,
			`DELETE FROM credentials WHERE client_id = $1 AND id = $2 RETURNING `+credentialColumns, clientID, id))
		return err
	})
	return removed, s.Fail(err, "remove credential %s of client %s", id, clientID)
}

// useEvery is the time within which a further use of a credential is not stored.
const useEvery = time.Hour

// CredentialUsed stores that a credential of the ACME door is being used from an address,
// at most once an hour. kid is its key identifier, or empty.
func (s *credentialStore) CredentialUsed(ctx context.Context, c clients.Credential, kid, addr string) error {
	now := s.Now()
	if !c.LastUsed.IsZero() && now.Sub(c.LastUsed) < useEvery && now.After(c.LastUsed.Add(-time.Minute)) {
		return nil
	}
	return s.Fail(s.Tx(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE credentials SET last_used = $2, last_from = $3, kid = CASE WHEN kid = '' THEN $4 ELSE kid END
			WHERE id = $1 AND last_used = $5`, c.ID, sqldb.Millis(now), addr, kid, sqldb.Millis(c.LastUsed))
		return err
	}), "use of credential %s", c.ID)
}

// Credentials returns the credentials of a client, the oldest first. It includes expired
// ones and excludes used enrolment secrets.
func (s *credentialStore) Credentials(ctx context.Context, clientID string) ([]clients.Credential, error) {
	rows, err := s.Reader().QueryContext(ctx, credentialsSQL, clientID)
	found, err := sqldb.Collect(rows, err, scanCredential)
	slices.SortStableFunc(found, func(a, b clients.Credential) int { return a.CreatedAt.Compare(b.CreatedAt) })
	return found, s.Fail(err, "credentials of client %s", clientID)
}

const hostsSQL = `SELECT COUNT(*) FROM credentials WHERE client_id = $1 AND kind = $2 AND (expires_at = 0 OR expires_at > $3)`

func countHosts(ctx context.Context, q sqldb.Querier, clientID string, now time.Time) (n int, err error) {
	return n, q.QueryRowContext(ctx, hostsSQL, clientID, string(clients.TLSKey), sqldb.Millis(now)).Scan(&n)
}

// Hosts returns the number of a client's unexpired TLS keys. Each enrolled host has one.
func (s *credentialStore) Hosts(ctx context.Context, clientID string) (int, error) {
	n, err := countHosts(ctx, s.Reader(), clientID, s.Now())
	return n, s.Fail(err, "hosts of client %s", clientID)
}

const (
	credentialsSQL = `SELECT ` + credentialColumns + ` FROM credentials
		WHERE client_id = $1 AND used_by IS NULL ORDER BY id`
	credentialByIDSQL = `SELECT ` + credentialColumns + ` FROM credentials WHERE id = $1 AND used_by IS NULL`
	credentialSQL     = `SELECT ` + credentialColumns + ` FROM credentials
		WHERE kind = $1 AND verifier = $2 AND used_by IS NULL AND (expires_at = 0 OR expires_at > $3)`
)

// ClientByCredentialID returns a credential with its client, or [managed.ErrNotFound].
// The credential may be expired, and the client disabled.
func (s *credentialStore) ClientByCredentialID(ctx context.Context, id string) (clients.Client, clients.Credential, error) {
	cred, err := scanCredential(s.Reader().QueryRowContext(ctx, credentialByIDSQL, id))
	if err != nil {
		return clients.Client{}, clients.Credential{}, s.Fail(err, "credential %s", id)
	}
	c, err := queryClient(ctx, s.Reader(), clientByIDSQL, cred.ClientID)
	if err != nil {
		return clients.Client{}, clients.Credential{}, s.Fail(err, "client of credential %s", id)
	}
	return c, cred, nil
}

// ClientByCredential returns the client of an unexpired credential, or
// [managed.ErrNotFound]. It also returns a disabled client, so that the caller can
// refuse it and record that in the audit trail.
func (s *credentialStore) ClientByCredential(ctx context.Context, kind clients.CredentialKind, verifier []byte) (clients.Client, clients.Credential, error) {
	cred, err := scanCredential(s.Reader().QueryRowContext(ctx, credentialSQL, string(kind), sqldb.Blob(verifier), sqldb.Millis(s.Now())))
	if err != nil {
		return clients.Client{}, clients.Credential{}, s.Fail(err, "client by %s", kind)
	}
	c, err := queryClient(ctx, s.Reader(), clientByIDSQL, cred.ClientID)
	if err != nil {
		return clients.Client{}, clients.Credential{}, s.Fail(err, "client by %s", kind)
	}
	return c, cred, nil
}

// Enroll registers a client's TLS key with an enrolment secret, in one transaction: it
// marks the secret as used, registers key and adds recipients to the client's. It
// returns the client.
//
// A retry with the same key succeeds until the secret expires, because the first answer
// may have been lost. Enroll returns [managed.ErrNotFound] if the secret is unknown,
// expired or used with another key. The other errors do not use up the secret:
// [managed.ErrConflict] if key belongs to another client; [managed.ErrTooMany] if the
// client would have more recipients than a bundle can be sealed to;
// [managed.ErrDisabled] if the client is disabled. A disabled client is returned with
// the error, so that the refusal can be audited.
func (s *credentialStore) Enroll(ctx context.Context, tokenVerifier []byte, key clients.Credential, recipients []string) (clients.Client, error) {
	key.Kind = clients.TLSKey
	if err := key.Validate(); err != nil {
		return clients.Client{}, fmt.Errorf("enroll: %w", err)
	}
	var c clients.Client
	err := s.Tx(ctx, func(tx *sql.Tx) error {
		clientID, err := s.spend(ctx, tx, tokenVerifier, key.Verifier)
		if err != nil {
			return err
		}
		if err := s.bindKey(ctx, tx, clientID, key); err != nil {
			return err
		}
		c, err = addRecipients(ctx, tx, clientID, recipients)
		if err == nil && c.Disabled {
			return managed.ErrDisabled // the transaction is rolled back
		}
		return err
	})
	if errors.Is(err, managed.ErrDisabled) {
		return c, s.Fail(err, "enroll")
	}
	if err != nil {
		return clients.Client{}, s.Fail(err, "enroll")
	}
	return c, nil
}

// EnrollingClient returns the client that Enroll would register the key for, without
// spending the secret, or [managed.ErrNotFound] as Enroll does.
func (s *credentialStore) EnrollingClient(ctx context.Context, tokenVerifier, keyVerifier []byte) (clients.Client, error) {
	var clientID string
	err := s.Reader().QueryRowContext(ctx, `SELECT client_id FROM credentials
		WHERE kind = $1 AND verifier = $2 AND (expires_at = 0 OR expires_at > $4) AND (used_by IS NULL OR used_by = $3)`,
		string(clients.Enrolment), sqldb.Blob(tokenVerifier), sqldb.Blob(keyVerifier), sqldb.Millis(s.Now())).Scan(&clientID)
	if err != nil {
		return clients.Client{}, s.Fail(err, "client by %s", clients.Enrolment)
	}
	c, err := queryClient(ctx, s.Reader(), clientByIDSQL, clientID)
	return c, s.Fail(err, "client by %s", clients.Enrolment)
}

// spend marks the secret as used by the key and returns its client's id.
func (s *credentialStore) spend(ctx context.Context, tx *sql.Tx, token, key []byte) (clientID string, err error) {
	if err := tx.QueryRowContext(ctx, `SELECT client_id FROM credentials WHERE kind = $1 AND verifier = $2`,
		string(clients.Enrolment), sqldb.Blob(token)).Scan(&clientID); err != nil {
		return "", err
	}
	// Lock the client before its credential, in the order of a removal.
	if err := lockClient(ctx, tx, clientID); err != nil {
		return "", err
	}
	n, err := sqldb.Affected(tx.ExecContext(ctx, `UPDATE credentials SET used_by = $3
		WHERE kind = $1 AND verifier = $2 AND (expires_at = 0 OR expires_at > $4) AND (used_by IS NULL OR used_by = $3)`,
		string(clients.Enrolment), sqldb.Blob(token), key, sqldb.Millis(s.Now())))
	return clientID, sqldb.Require(n, err, managed.ErrNotFound)
}

// bindKey registers key for the client. If the client has the key already, it only
// sets the new expiry.
func (s *credentialStore) bindKey(ctx context.Context, tx *sql.Tx, clientID string, key clients.Credential) error {
	n, err := sqldb.Affected(tx.ExecContext(ctx, `INSERT INTO credentials (id, client_id, kind, verifier, created_at, expires_at)
		VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (kind, verifier) DO UPDATE SET expires_at = excluded.expires_at
		WHERE credentials.client_id = excluded.client_id`,
		sqldb.NewID(), clientID, string(clients.TLSKey), key.Verifier, sqldb.Millis(s.Now()), sqldb.Millis(key.ExpiresAt)))
	return sqldb.Require(n, err, managed.ErrConflict)
}
