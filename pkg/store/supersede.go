package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/store/sqldb"
)

// ownedError wraps [managed.ErrOwned] with the owner.
type ownedError struct{ name, owner string }

func (e *ownedError) Error() string { return fmt.Sprintf("name %s: %v", e.name, managed.ErrOwned) }
func (e *ownedError) Unwrap() error { return managed.ErrOwned }

const (
	rowsOfNameSQL = `SELECT ` + managedColumns + ` FROM managed WHERE client_id = $2
		AND id IN (SELECT managed_id FROM managed_names WHERE name = $1)`
	renewedSQL = `SELECT COUNT(*) FROM (SELECT 1 FROM managed WHERE client_id = '' AND due_at > 0
		AND id IN (SELECT managed_id FROM managed_names WHERE name = $1) LIMIT 1) AS found`
)

// supersede takes a name from a client that does not hold it any more, and returns the
// rows that lost it. It returns ErrOwned if the client still holds the name. The client
// must be locked.
func (w *registering) supersede(ctx context.Context, tx *sql.Tx, owned *ownedError) (lost []managed.Superseded, err error) {
	owner, held, err := w.holder(ctx, tx, owned)
	if err == nil && held {
		err = owned
	}
	if err != nil {
		return nil, err
	}
	var to clients.Client
	if w.ClientID != "" {
		if to, err = queryClient(ctx, tx, clientByIDSQL, w.ClientID); err != nil {
			return nil, err
		}
	}
	rows, err := tx.QueryContext(ctx, rowsOfNameSQL, owned.name, owned.owner)
	found, err := sqldb.Collect(rows, err, scanManaged)
	if err != nil {
		return nil, err
	}
	for _, row := range found {
		if err := w.retire(ctx, tx, row, owner); err != nil {
			return nil, err
		}
		if row.SupersededAt.IsZero() {
			lost = append(lost, managed.Superseded{Certificate: row, Owner: owner, Name: owned.name, To: to})
		}
	}
	_, err = tx.ExecContext(ctx, `DELETE FROM name_owners WHERE name = $1 AND client_id = $2`, owned.name, owned.owner)
	return lost, err
}

// holder returns the owner of a name, and whether the owner still holds it.
func (w *registering) holder(ctx context.Context, tx *sql.Tx, owned *ownedError) (owner clients.Client, held bool, err error) {
	if owned.owner == "" {
		var n int
		err = tx.QueryRowContext(ctx, renewedSQL, owned.name).Scan(&n)
		return owner, n > 0, err
	}
	owner, err = queryClient(ctx, tx, clientByIDSQL, owned.owner)
	if errors.Is(err, managed.ErrNotFound) {
		return owner, false, nil
	}
	return owner, err == nil && w.Holds(owner, owned.name), err
}

// retire marks a row as superseded, ends the work on it, and releases the names that its
// owner does not hold any more. The owner retains the others.
func (w *registering) retire(ctx context.Context, tx *sql.Tx, row managed.Certificate, owner clients.Client) error {
	if _, err := tx.ExecContext(ctx, `DELETE FROM orders WHERE managed_id = $1`, row.ID); err != nil {
		return err
	}
	lost := slices.DeleteFunc(slices.Clone(row.Names), func(name string) bool { return owner.ID != "" && w.Holds(owner, name) })
	for _, name := range sorted(lost) {
		if _, err := tx.ExecContext(ctx, `DELETE FROM managed_names WHERE managed_id = $1 AND name = $2`, row.ID, name); err != nil {
			return err
		}
	}
	if _, err := tx.ExecContext(ctx, `UPDATE managed SET superseded_at = $2, due_at = 0, lease_owner = '', lease_until = 0,
		updated_at = $2 WHERE id = $1 AND superseded_at = 0`, row.ID, sqldb.Millis(w.Now())); err != nil {
		return err
	}
	return releaseNames(ctx, tx, lost)
}
