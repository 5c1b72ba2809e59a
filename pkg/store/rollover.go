package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/seal"
	"github.com/acmeproxy/acmeproxy/pkg/store/sqldb"
)

// ReplaceCredentials replaces all credentials of a client with c, and all its recipients
// with these, in one transaction. It also removes enrolment secrets, used ones too.
// Grants, managed certificates and names stay. A certificate that is being obtained
// meanwhile is not stored for the old recipients (see [Store.CompleteManaged]). It
// returns the client.
//
// With an error nothing changes. The error is [managed.ErrNotFound] for an unknown
// client, [managed.ErrConflict] if c is registered for another, or [managed.ErrTooMany]
// for too many recipients.
func (s *credentialStore) ReplaceCredentials(ctx context.Context, c clients.Credential, recipients []string) (clients.Client, error) {
	var client clients.Client
	err := s.Tx(ctx, func(tx *sql.Tx) error {
		if c.ClientID == "" {
			return managed.ErrNotFound
		}
		if err := lockClient(ctx, tx, c.ClientID); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM credentials WHERE client_id = $1`, c.ClientID); err != nil {
			return err
		}
		if _, err := insertCredential(ctx, tx, s.Now(), c); err != nil {
			return err
		}
		before, err := queryClient(ctx, tx, clientByIDSQL, c.ClientID)
		if err != nil {
			return err
		}
		client, err = setRecipients(ctx, tx, before, recipients)
		return err
	})
	if err != nil {
		return clients.Client{}, s.Fail(err, "replace the credentials of client %s", c.ClientID)
	}
	return client, nil
}

// RollKey replaces the verifier of one TLS key and swaps recipients, in one transaction.
// The credential retains its creation time. RollKey deletes the old key's enrolment
// secret, which could enrol that key again. It returns the client.
//
// With an error nothing changes. The error is [managed.ErrNotFound] if no such
// credential has the old key, [managed.ErrConflict] if the new key is registered
// already, [managed.ErrTooMany] for too many recipients, or [managed.ErrRecipients].
func (s *credentialStore) RollKey(ctx context.Context, r clients.Rollover) (clients.Client, error) {
	if len(r.New) == 0 {
		return clients.Client{}, errors.New("roll key: the new verifier is empty: give the hash of the key")
	}
	var c clients.Client
	err := s.Tx(ctx, func(tx *sql.Tx) error {
		var clientID string
		if err := tx.QueryRowContext(ctx, `SELECT client_id FROM credentials WHERE id = $1`, r.CredentialID).Scan(&clientID); err != nil {
			return err
		}
		// Lock the client before its credential, in the order of a removal.
		if err := lockClient(ctx, tx, clientID); err != nil {
			return err
		}
		n, err := sqldb.Affected(tx.ExecContext(ctx, `UPDATE credentials SET verifier = $3
			WHERE id = $1 AND verifier = $2 AND kind = $4 AND (expires_at = 0 OR expires_at > $5)`,
			r.CredentialID, sqldb.Blob(r.Old), r.New, string(clients.TLSKey), sqldb.Millis(s.Now())))
		if err := sqldb.Require(n, err, managed.ErrNotFound); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM credentials WHERE client_id = $1 AND used_by = $2`, clientID, sqldb.Blob(r.Old)); err != nil {
			return err
		}
		before, err := queryClient(ctx, tx, clientByIDSQL, clientID)
		if err != nil {
			return err
		}
		c, err = swapRecipients(ctx, tx, before, r.Add, r.Retire)
		return err
	})
	if err != nil {
		return clients.Client{}, s.Fail(err, "roll the key of credential %s", r.CredentialID)
	}
	return c, nil
}

func swapRecipients(ctx context.Context, tx *sql.Tx, c clients.Client, add, retire []string) (clients.Client, error) {
	for _, r := range retire {
		if seal.FindRecipient(c.Recipients, r) < 0 {
			return clients.Client{}, fmt.Errorf("retire: %w", managed.ErrRecipients)
		}
	}
	rest := slices.DeleteFunc(append(slices.Clone(c.Recipients), add...), func(r string) bool { return seal.FindRecipient(retire, r) >= 0 })
	if len(rest) == 0 && len(c.Recipients) > 0 {
		return clients.Client{}, fmt.Errorf("retire: %w", managed.ErrRecipients)
	}
	return setRecipients(ctx, tx, c, rest)
}
