package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/store/sqldb"
)

// clientsSQL reads clients with their grants in one statement, so that both are
// consistent. %s selects the clients.
const clientsSQL = `SELECT c.id, c.name, c.disabled, c.recipients, c.created_at, COALESCE(g.position, -1),
	COALESCE(g.patterns, ''), COALESCE(g.modes, ''), COALESCE(g.networks, ''), COALESCE(g.key_types, ''),
	COALESCE(g.profiles, ''), COALESCE(g.max_names, 0), COALESCE(g.daily_quota, 0)
	FROM (SELECT id, name, disabled, recipients, created_at FROM clients WHERE %s) AS c
	LEFT JOIN grants AS g ON g.client_id = c.id ORDER BY c.name, g.position`

var (
	clientByIDSQL   = fmt.Sprintf(clientsSQL, `id = $1`)
	clientByNameSQL = fmt.Sprintf(clientsSQL, `name = $1`)
	clientsPageSQL  = fmt.Sprintf(clientsSQL, `name > $1 ORDER BY name LIMIT $2`)
)

func queryClients(ctx context.Context, q sqldb.Querier, query string, args ...any) ([]clients.Client, error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close() // rows.Err says what went wrong
	var out []clients.Client
	for rows.Next() {
		var c clients.Client
		var g clients.Grant
		var position int64
		if err := rows.Scan(&c.ID, &c.Name, &c.Disabled, sqldb.List(&c.Recipients), sqldb.Time(&c.CreatedAt), &position,
			sqldb.List(&g.Names), sqldb.List(&g.Modes), sqldb.List(&g.Networks), sqldb.List(&g.KeyTypes),
			sqldb.List(&g.Profiles), &g.MaxNames, &g.DailyQuota); err != nil {
			return nil, err
		}
		if len(out) == 0 || out[len(out)-1].ID != c.ID {
			out = append(out, c)
		}
		if position >= 0 {
			last := &out[len(out)-1]
			last.Grants = append(last.Grants, g)
		}
	}
	return out, rows.Err()
}

func queryClient(ctx context.Context, q sqldb.Querier, query, key string) (clients.Client, error) {
	found, err := queryClients(ctx, q, query, key)
	if err == nil && len(found) == 0 {
		err = managed.ErrNotFound
	}
	if err != nil {
		return clients.Client{}, err
	}
	return found[0], nil
}

// CreateClient stores a client with its grants and credentials, all or nothing,
// and returns it with its id. The error is [managed.ErrConflict] if the name or a
// credential exists already.
func (s *clientStore) CreateClient(ctx context.Context, c clients.Client, credentials ...clients.Credential) (clients.Client, error) {
	if c.Name == "" {
		return clients.Client{}, errors.New("create client: name is empty: give it a name")
	}
	var created clients.Client
	err := s.Tx(ctx, func(tx *sql.Tx) error {
		inserted, err := s.insertClient(ctx, tx, c)
		if err != nil {
			return err
		}
		for _, cred := range credentials {
			cred.ClientID = inserted.ID
			if _, err := insertCredential(ctx, tx, s.Now(), cred); err != nil {
				return err
			}
		}
		created, err = queryClient(ctx, tx, clientByIDSQL, inserted.ID)
		return err
	})
	if err != nil {
		return clients.Client{}, s.Fail(err, "create client %s", c.Name)
	}
	return created, nil
}

// insertClient adds a client with its grants, and returns it with its id.
func (s *clientStore) insertClient(ctx context.Context, tx *sql.Tx, c clients.Client) (clients.Client, error) {
	var err error
	if c.Recipients, err = withRecipients(nil, c.Recipients); err != nil {
		return clients.Client{}, err
	}
	recipients, err := sqldb.Lines("recipients", c.Recipients)
	if err != nil {
		return clients.Client{}, err
	}
	c.ID, c.CreatedAt = sqldb.NewID(), s.Now()
	if _, err := tx.ExecContext(ctx, `INSERT INTO clients (id, name, disabled, recipients, created_at)
		VALUES ($1, $2, $3, $4, $5)`, c.ID, c.Name, c.Disabled, recipients, sqldb.Millis(c.CreatedAt)); err != nil {
		return clients.Client{}, err
	}
	return c, insertGrants(ctx, tx, c.ID, c.Grants)
}

func insertGrants(ctx context.Context, tx *sql.Tx, clientID string, grants []clients.Grant) error {
	for i, g := range grants {
		patterns, err1 := sqldb.Lines("patterns", g.Names)
		modes, err2 := sqldb.Lines("modes", g.Modes)
		networks, err3 := sqldb.Lines("networks", g.Networks)
		keyTypes, err4 := sqldb.Lines("key types", g.KeyTypes)
		profiles, err5 := sqldb.Lines("profiles", g.Profiles)
		if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
			return fmt.Errorf("grant %d: %w", i+1, err)
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO grants (client_id, position, patterns, modes, networks, key_types, profiles, max_names, daily_quota)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
			clientID, i, patterns, modes, networks, keyTypes, profiles, g.MaxNames, g.DailyQuota); err != nil {
			return err
		}
	}
	return nil
}

// ClientByName returns a client, or [managed.ErrNotFound].
func (s *clientStore) ClientByName(ctx context.Context, name string) (clients.Client, error) {
	c, err := queryClient(ctx, s.Reader(), clientByNameSQL, name)
	return c, s.Fail(err, "client %s", name)
}

// ClientByID returns a client, or [managed.ErrNotFound].
func (s *clientStore) ClientByID(ctx context.Context, id string) (clients.Client, error) {
	c, err := queryClient(ctx, s.Reader(), clientByIDSQL, id)
	return c, s.Fail(err, "client %s", id)
}

// Clients returns up to limit clients (0: 100) whose name follows afterName,
// ordered by name. An empty page is the end.
func (s *clientStore) Clients(ctx context.Context, afterName string, limit int) ([]clients.Client, error) {
	found, err := queryClients(ctx, s.Reader(), clientsPageSQL, afterName, sqldb.PageSize(limit))
	return found, s.Fail(err, "list clients")
}

// SetClientDisabled disables or enables a client. Its rows stay.
func (s *clientStore) SetClientDisabled(ctx context.Context, id string, disabled bool) error {
	n, err := s.Exec(ctx, `UPDATE clients SET disabled = $2 WHERE id = $1`, id, disabled)
	return s.Fail(sqldb.Require(n, err, managed.ErrNotFound), "disable or enable client %s", id)
}

// RemoveClient removes a client and all that it owns: credentials, grants, quotas,
// managed certificates with bundles, orders and hooks, and names. The audit trail
// stays. Work in flight for it ends with [managed.ErrLost].
func (s *clientStore) RemoveClient(ctx context.Context, id string) error {
	err := s.Tx(ctx, func(tx *sql.Tx) error {
		if err := removeClient(ctx, tx, id); err != nil {
			return err
		}
		return s.audit.bounds.retire(ctx, tx, id)
	})
	return s.Fail(err, "remove client %s", id)
}

func removeClient(ctx context.Context, tx *sql.Tx, id string) error {
	// The lock of the client's row prevents EnsureManaged from adding certificates.
	n, err := sqldb.Affected(tx.ExecContext(ctx, `DELETE FROM clients WHERE id = $1`, id))
	if err := sqldb.Require(n, err, managed.ErrNotFound); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, `DELETE FROM managed WHERE client_id = $1`, id); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, `DELETE FROM pauses WHERE client_id = $1`, id); err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `DELETE FROM name_owners WHERE client_id = $1`, id)
	return err
}

// lockClient locks the client's row until the transaction ends, so that it cannot be
// removed meanwhile. It does nothing for the proxy itself, "".
func lockClient(ctx context.Context, tx *sql.Tx, id string) error {
	if id == "" {
		return nil
	}
	n, err := sqldb.Affected(tx.ExecContext(ctx, `UPDATE clients SET name = name WHERE id = $1`, id))
	return sqldb.Require(n, err, managed.ErrNotFound)
}
