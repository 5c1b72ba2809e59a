package store

import (
	"context"
	"database/sql"
	"errors"

	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/store/sqldb"
)

const managedColumns = `id, client_id, mode, names, key_type, profile, csr, due_at, lease_owner, lease_until,
	failures, last_error, last_error_at, wait_until, etag, serial, not_before, not_after, revoked_at,
	ca, ari_id, ari_start, ari_end, ari_check_at, superseded_at, created_at, updated_at, name, planned_at`

func scanManaged(row sqldb.Scanner) (m managed.Certificate, err error) {
	err = row.Scan(&m.ID, &m.ClientID, &m.Mode, sqldb.List(&m.Names), &m.KeyType, &m.Profile, &m.CSR,
		sqldb.Time(&m.DueAt), &m.LeaseOwner, sqldb.Time(&m.LeaseUntil), &m.Failures, &m.LastError, sqldb.Time(&m.LastErrorAt), sqldb.Time(&m.WaitUntil),
		&m.ETag, &m.Serial, sqldb.Time(&m.NotBefore), sqldb.Time(&m.NotAfter), sqldb.Time(&m.RevokedAt),
		&m.CA, &m.ARIID, sqldb.Time(&m.ARIStart), sqldb.Time(&m.ARIEnd), sqldb.Time(&m.ARICheckAt),
		sqldb.Time(&m.SupersededAt), sqldb.Time(&m.CreatedAt), sqldb.Time(&m.UpdatedAt), &m.Name, sqldb.Time(&m.PlannedAt))
	if len(m.CSR) == 0 {
		m.CSR = nil
	}
	m.LastPlain, m.LastError = splitFailure(m.LastError)
	return m, err
}

const (
	managedByIDSQL    = `SELECT ` + managedColumns + ` FROM managed WHERE id = $1`
	managedByNamesSQL = `SELECT ` + managedColumns + ` FROM managed WHERE client_id = $1 AND mode = $2 AND names_hash = $3`
	listManagedSQL    = `SELECT ` + managedColumns + ` FROM managed
		WHERE client_id = $1 AND id > $2 AND ($3 = '' OR mode = $3) ORDER BY id LIMIT $4`

	// An existing row keeps its name, and loses its lease, because work in flight is for the old
	// specification.
	upsertManagedSQL = `INSERT INTO managed (id, client_id, mode, names, names_hash, key_type, profile, csr,
		due_at, lease_owner, lease_until, failures, last_error, last_error_at, wait_until, etag, serial, not_before, not_after, created_at, updated_at, name, planned_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $10, '', 0, $11, $12, $13, $15, '', '', 0, 0, $9, $9, $14, $16)
		ON CONFLICT (client_id, mode, names_hash) DO UPDATE SET
		key_type = excluded.key_type, profile = excluded.profile, csr = excluded.csr, due_at = excluded.due_at,
		lease_owner = '', lease_until = 0, failures = excluded.failures, failed_with = '', last_error = excluded.last_error,
		last_error_at = excluded.last_error_at, wait_until = excluded.wait_until, planned_at = excluded.planned_at, superseded_at = 0, updated_at = excluded.updated_at
		RETURNING ` + managedColumns
)

// EnsureManaged makes the proxy manage a certificate for m's ClientID, Mode and Names,
// with m's KeyType, Profile and CSR. It ignores the other fields, and the Name unless
// the row is new. A new row is due now, and a repetition changes nothing. A different specification replaces the stored one:
// the row is due now, its order leaves the journal, and work in flight ends with
// [managed.ErrLost]. The old bundle stays until the new one is stored.
//
// EnsureManaged returns [managed.ErrOwned] if one of the names belongs to another
// client. Then nothing changes. It returns [managed.ErrNotFound] if the client does not
// exist.
func (s *certificateStore) EnsureManaged(ctx context.Context, m managed.Certificate) (stored managed.Certificate, created bool, err error) {
	return s.Register(ctx, managed.Registration{Certificate: m})
}

// takeNames makes the client the owner of each name, or returns ErrOwned. It locks the
// names until the transaction ends.
func takeNames(ctx context.Context, tx *sql.Tx, clientID string, names []string) error {
	for _, name := range sorted(names) {
		n, err := sqldb.Affected(tx.ExecContext(ctx, `INSERT INTO name_owners (name, client_id) VALUES ($1, $2)
			ON CONFLICT (name) DO UPDATE SET client_id = excluded.client_id
			WHERE name_owners.client_id = excluded.client_id`, name, clientID))
		if err != nil {
			return err
		}
		if n == 0 {
			owned := &ownedError{name: name}
			if err := tx.QueryRowContext(ctx, `SELECT client_id FROM name_owners WHERE name = $1`, name).Scan(&owned.owner); err != nil {
				return err
			}
			return owned
		}
	}
	return nil
}

// takeRowNames locks the names of a row that its client owns until the transaction
// ends, and returns them. Some names of a superseded row belong to other clients.
func takeRowNames(ctx context.Context, tx *sql.Tx, m managed.Certificate) ([]string, error) {
	if m.SupersededAt.IsZero() {
		return m.Names, takeNames(ctx, tx, m.ClientID, m.Names)
	}
	var own []string
	for _, name := range sorted(m.Names) {
		err := takeNames(ctx, tx, m.ClientID, []string{name})
		if errors.Is(err, managed.ErrOwned) {
			continue
		}
		if err != nil {
			return nil, err
		}
		own = append(own, name)
	}
	return own, nil
}

func linkNames(ctx context.Context, tx *sql.Tx, managedID string, names []string) error {
	for _, name := range sorted(names) {
		if _, err := tx.ExecContext(ctx, `INSERT INTO managed_names (name, managed_id) VALUES ($1, $2)
			ON CONFLICT (name, managed_id) DO NOTHING`, name, managedID); err != nil {
			return err
		}
	}
	return nil
}

// releaseNames deletes the names that no managed row uses any more. The transaction
// must have locked them before it deleted its row.
func releaseNames(ctx context.Context, tx *sql.Tx, names []string) error {
	for _, name := range sorted(names) {
		if _, err := tx.ExecContext(ctx, `DELETE FROM name_owners WHERE name = $1
			AND NOT EXISTS (SELECT 1 FROM managed_names WHERE managed_names.name = name_owners.name)`, name); err != nil {
			return err
		}
	}
	return nil
}

// ManagedByID returns a managed certificate, or [managed.ErrNotFound].
func (s *certificateStore) ManagedByID(ctx context.Context, id string) (managed.Certificate, error) {
	m, err := scanManaged(s.Reader().QueryRowContext(ctx, managedByIDSQL, id))
	return m, s.Fail(err, "managed certificate %s", id)
}

// ManagedByNames returns the managed certificate of a client in a mode for
// exactly these names, in any order, or [managed.ErrNotFound].
func (s *certificateStore) ManagedByNames(ctx context.Context, clientID string, mode clients.Mode, names []string) (managed.Certificate, error) {
	m, err := scanManaged(s.Reader().QueryRowContext(ctx, managedByNamesSQL, clientID, mode, namesHash(names)))
	return m, s.Fail(err, "managed certificate by names")
}

// ListManaged returns up to limit (0: 100) managed certificates of one client
// ("": the proxy itself) in one mode ("": any) whose id follows afterID,
// ordered by id. An empty page is the end.
func (s *certificateStore) ListManaged(ctx context.Context, clientID string, mode clients.Mode, afterID string, limit int) ([]managed.Certificate, error) {
	rows, err := s.Reader().QueryContext(ctx, listManagedSQL, clientID, afterID, mode, sqldb.PageSize(limit))
	found, err := sqldb.Collect(rows, err, scanManaged)
	return found, s.Fail(err, "list managed certificates")
}

// SetName stores another name of a managed certificate. It returns [managed.ErrNotFound]
// for an unknown id.
func (s *certificateStore) SetName(ctx context.Context, id, name string) error {
	n, err := s.Exec(ctx, `UPDATE managed SET name = $2, updated_at = $3 WHERE id = $1`, id, name, sqldb.Millis(s.Now()))
	return s.Fail(sqldb.Require(n, err, managed.ErrNotFound), "name managed certificate %s", id)
}

// DeleteManaged removes a managed certificate with its bundle, order and hook, and
// releases names that the client uses in no other. It returns [managed.ErrNotFound] for
// an unknown id. Work in flight for it ends with [managed.ErrLost].
func (s *certificateStore) DeleteManaged(ctx context.Context, id string) error {
	return s.deleteManaged(ctx, id, nil, false)
}

// DeleteUnshared deletes as [Store.DeleteManaged] does. It returns [managed.ErrShared],
// and nothing changes, if several enrolled hosts have the row's client in common.
func (s *certificateStore) DeleteUnshared(ctx context.Context, id string) error {
	return s.deleteManaged(ctx, id, nil, true)
}

// deleteManaged deletes a row. If a serial number is given, the row's certificate must
// have it. With unshared, the client must not have several hosts.
func (s *certificateStore) deleteManaged(ctx context.Context, id string, serial *string, unshared bool) error {
	err := s.Tx(ctx, func(tx *sql.Tx) error {
		m, err := scanManaged(tx.QueryRowContext(ctx, managedByIDSQL, id))
		if err != nil {
			return err
		}
		if err := lockClient(ctx, tx, m.ClientID); err != nil {
			return err
		}
		if unshared { // an enrolment locks the client, too
			hosts, err := countHosts(ctx, tx, m.ClientID, s.Now())
			if err != nil {
				return err
			}
			if hosts > 1 {
				return managed.ErrShared
			}
		}
		// It may have been superseded before the lock was acquired.
		if m, err = scanManaged(tx.QueryRowContext(ctx, managedByIDSQL, id)); err != nil {
			return err
		}
		names, err := takeRowNames(ctx, tx, m)
		if err != nil {
			return err
		}
		query, args, none := `DELETE FROM managed WHERE id = $1`, []any{id}, managed.ErrNotFound
		if serial != nil {
			query, args, none = query+` AND serial = $2`, append(args, *serial), managed.ErrLost
		}
		n, err := sqldb.Affected(tx.ExecContext(ctx, query, args...))
		if err := sqldb.Require(n, err, none); err != nil {
			return err
		}
		if err := s.keepFailures(ctx, tx, m); err != nil {
			return err
		}
		return releaseNames(ctx, tx, names)
	})
	return s.Fail(err, "delete managed certificate %s", id)
}
