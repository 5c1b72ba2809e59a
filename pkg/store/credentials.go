package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
)

const credentialColumns = `id, client_id, kind, verifier, created_at, expires_at`

func scanCredential(row scanner) (c clients.Credential, err error) {
	err = row.Scan(&c.ID, &c.ClientID, &c.Kind, &c.Verifier, moment{&c.CreatedAt}, moment{&c.ExpiresAt})
	return c, err
}

func (s *Store) insertCredential(ctx context.Context, tx *sql.Tx, c clients.Credential) (clients.Credential, error) {
	if err := c.Validate(); err != nil {
		return clients.Credential{}, err
	}
	return scanCredential(tx.QueryRowContext(ctx, `INSERT INTO credentials (id, client_id, kind, verifier, created_at, expires_at)
		VALUES ($1, $2, $3, $4, $5, $6) RETURNING `+credentialColumns,
		newID(), c.ClientID, string(c.Kind), c.Verifier, millis(s.now()), millis(c.ExpiresAt)))
}

// AddCredential gives a client one more credential. [managed.ErrNotFound] for an
// unknown client, [managed.ErrConflict] when the credential is registered already.
// The client's enrolment secrets that have expired are cleared away.
func (s *Store) AddCredential(ctx context.Context, c clients.Credential) (clients.Credential, error) {
	var added clients.Credential
	err := s.tx(ctx, func(tx *sql.Tx) error {
		if c.ClientID == "" {
			return managed.ErrNotFound
		}
		if err := lockClient(ctx, tx, c.ClientID); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM credentials
			WHERE client_id = $1 AND kind = $2 AND expires_at > 0 AND expires_at <= $3`,
			c.ClientID, string(clients.Enrolment), millis(s.now())); err != nil {
			return err
		}
		var err error
		added, err = s.insertCredential(ctx, tx, c)
		return err
	})
	if err != nil {
		return clients.Credential{}, s.fail(err, "add credential to client %s", c.ClientID)
	}
	return added, nil
}

// Credentials returns the credentials of a client, ordered by id; expired ones
// included, enrolment secrets that were used excluded.
func (s *Store) Credentials(ctx context.Context, clientID string) ([]clients.Credential, error) {
	rows, err := s.read.QueryContext(ctx, credentialsSQL, clientID)
	found, err := collect(rows, err, scanCredential)
	return found, s.fail(err, "credentials of client %s", clientID)
}

const (
	credentialsSQL = `SELECT ` + credentialColumns + ` FROM credentials
		WHERE client_id = $1 AND used_by IS NULL ORDER BY id`
	credentialSQL = `SELECT ` + credentialColumns + ` FROM credentials
		WHERE kind = $1 AND verifier = $2 AND used_by IS NULL AND (expires_at = 0 OR expires_at > $3)`
)

// ClientByCredential returns the client that an unexpired credential proves,
// or [managed.ErrNotFound]. A disabled client is returned too: the caller refuses it
// and says so in the audit trail.
func (s *Store) ClientByCredential(ctx context.Context, kind clients.CredentialKind, verifier []byte) (clients.Client, clients.Credential, error) {
	cred, err := scanCredential(s.read.QueryRowContext(ctx, credentialSQL, string(kind), blob(verifier), millis(s.now())))
	if err != nil {
		return clients.Client{}, clients.Credential{}, s.fail(err, "client by %s", kind)
	}
	c, err := queryClient(ctx, s.read, clientByIDSQL, cred.ClientID)
	if err != nil {
		return clients.Client{}, clients.Credential{}, s.fail(err, "client by %s", kind)
	}
	return c, cred, nil
}

// Enroll spends an enrolment secret on a client's TLS key, in one transaction:
// the secret is used up, key is registered and recipients are added to those
// the client has. It returns the client.
//
// A retry with the same key succeeds until the secret expires, because the
// first answer may have been lost. [managed.ErrNotFound] if the secret is unknown,
// expired or was spent on another key; [managed.ErrConflict] if key belongs to another
// client already, and then the secret is not used up; [managed.ErrTooMany], likewise, if
// the client would have more recipients than anything can be sealed to;
// [managed.ErrDisabled], likewise, if the client is disabled, which is returned too so
// that the refusal can be audited.
func (s *Store) Enroll(ctx context.Context, tokenVerifier []byte, key clients.Credential, recipients []string) (clients.Client, error) {
	key.Kind = clients.TLSKey
	if err := key.Validate(); err != nil {
		return clients.Client{}, fmt.Errorf("enroll: %w", err)
	}
	var c clients.Client
	err := s.tx(ctx, func(tx *sql.Tx) error {
		clientID, err := s.spend(ctx, tx, tokenVerifier, key.Verifier)
		if err != nil {
			return err
		}
		if err := s.bindKey(ctx, tx, clientID, key); err != nil {
			return err
		}
		c, err = addRecipients(ctx, tx, clientID, recipients)
		if err == nil && c.Disabled {
			return managed.ErrDisabled // and nothing of it is kept
		}
		return err
	})
	if errors.Is(err, managed.ErrDisabled) {
		return c, s.fail(err, "enroll")
	}
	if err != nil {
		return clients.Client{}, s.fail(err, "enroll")
	}
	return c, nil
}

// EnrollingClient returns the client that Enroll would register the key for, without
// spending the secret, or [managed.ErrNotFound] as Enroll does.
func (s *Store) EnrollingClient(ctx context.Context, tokenVerifier, keyVerifier []byte) (clients.Client, error) {
	var clientID string
	err := s.read.QueryRowContext(ctx, `SELECT client_id FROM credentials
		WHERE kind = $1 AND verifier = $2 AND (expires_at = 0 OR expires_at > $4) AND (used_by IS NULL OR used_by = $3)`,
		string(clients.Enrolment), blob(tokenVerifier), blob(keyVerifier), millis(s.now())).Scan(&clientID)
	if err != nil {
		return clients.Client{}, s.fail(err, "client by %s", clients.Enrolment)
	}
	c, err := queryClient(ctx, s.read, clientByIDSQL, clientID)
	return c, s.fail(err, "client by %s", clients.Enrolment)
}

// spend marks the secret as used by the key and returns whose it is.
func (s *Store) spend(ctx context.Context, tx *sql.Tx, token, key []byte) (clientID string, err error) {
	if err := tx.QueryRowContext(ctx, `SELECT client_id FROM credentials WHERE kind = $1 AND verifier = $2`,
		string(clients.Enrolment), blob(token)).Scan(&clientID); err != nil {
		return "", err
	}
	// The client before its credential, the order in which a removal locks them.
	if err := lockClient(ctx, tx, clientID); err != nil {
		return "", err
	}
	n, err := affected(tx.ExecContext(ctx, `UPDATE credentials SET used_by = $3
		WHERE kind = $1 AND verifier = $2 AND (expires_at = 0 OR expires_at > $4) AND (used_by IS NULL OR used_by = $3)`,
		string(clients.Enrolment), blob(token), key, millis(s.now())))
	return clientID, must(n, err, managed.ErrNotFound)
}

// bindKey registers key for the client; its own key registered before stays,
// with the new expiry.
func (s *Store) bindKey(ctx context.Context, tx *sql.Tx, clientID string, key clients.Credential) error {
	n, err := affected(tx.ExecContext(ctx, `INSERT INTO credentials (id, client_id, kind, verifier, created_at, expires_at)
		VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (kind, verifier) DO UPDATE SET expires_at = excluded.expires_at
		WHERE credentials.client_id = excluded.client_id`,
		newID(), clientID, string(clients.TLSKey), key.Verifier, millis(s.now()), millis(key.ExpiresAt)))
	return must(n, err, managed.ErrConflict)
}
