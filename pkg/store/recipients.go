package store

import (
	"context"
	"database/sql"
	"fmt"
	"slices"

	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/seal"
	"github.com/acmeproxy/acmeproxy/pkg/store/sqldb"
)

// Recipients are stored in canonical form, each once: the same key with another comment
// is the same recipient. The store converts them, so that no caller can forget it.

// withRecipients adds recipients to a client's present ones.
func withRecipients(have, more []string) ([]string, error) {
	all := seal.CanonicalList(slices.Concat(have, more))
	if len(all) > seal.MaxRecipients {
		return nil, fmt.Errorf("%d recipients: %w", len(all), managed.ErrTooMany)
	}
	return all, nil
}

func addRecipients(ctx context.Context, tx *sql.Tx, clientID string, recipients []string) (clients.Client, error) {
	c, err := queryClient(ctx, tx, clientByIDSQL, clientID)
	if err != nil {
		return clients.Client{}, err
	}
	return setRecipients(ctx, tx, c, append(c.Recipients, recipients...))
}

// setRecipients stores each recipient once, in this order.
func setRecipients(ctx context.Context, tx *sql.Tx, c clients.Client, recipients []string) (clients.Client, error) {
	var err error
	if c.Recipients, err = withRecipients(nil, recipients); err != nil {
		return clients.Client{}, err
	}
	text, err := sqldb.Lines("recipients", c.Recipients)
	if err != nil {
		return clients.Client{}, err
	}
	_, err = tx.ExecContext(ctx, `UPDATE clients SET recipients = $2 WHERE id = $1`, c.ID, text)
	return c, err
}

// migrateRecipients converts the recipients of all clients to canonical form. Recipients
// that differ only in their comments become one.
func migrateRecipients(ctx context.Context, tx *sql.Tx) error {
	// Locks all rows, so that no running instance of an older program changes one meanwhile.
	if _, err := tx.ExecContext(ctx, `UPDATE clients SET recipients = recipients`); err != nil {
		return err
	}
	type row struct {
		id         string
		recipients []string
	}
	rows, err := tx.QueryContext(ctx, `SELECT id, recipients FROM clients WHERE recipients <> ''`)
	clients, err := sqldb.Collect(rows, err, func(s sqldb.Scanner) (r row, err error) {
		return r, s.Scan(&r.id, sqldb.List(&r.recipients))
	})
	if err != nil {
		return err
	}
	for _, c := range clients {
		canonical := seal.CanonicalList(c.recipients)
		if slices.Equal(canonical, c.recipients) {
			continue
		}
		text, err := sqldb.Lines("recipients", canonical)
		if err != nil {
			return fmt.Errorf("client %s: %w", c.id, err)
		}
		if _, err := tx.ExecContext(ctx, `UPDATE clients SET recipients = $2 WHERE id = $1`, c.id, text); err != nil {
			return err
		}
	}
	return nil
}
