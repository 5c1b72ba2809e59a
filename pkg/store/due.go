package store

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/store/sqldb"
)

// manyDue is the number of due rows above which Due does not read all of them.
const manyDue = 256

const (
	duePageSQL = `SELECT id, client_id FROM managed
		WHERE due_at > 0 AND due_at <= $1 AND lease_until <= $1 ORDER BY due_at LIMIT CAST($2 AS BIGINT)`

	// dueOfClientsSQL steps from client to client in the index. Its cost does not
	// depend on the number of rows of each client.
	dueOfClientsSQL = `WITH RECURSIVE c(client_id) AS (
		SELECT client_id FROM (SELECT client_id FROM managed ORDER BY client_id LIMIT 1) AS first
		UNION ALL SELECT (SELECT m.client_id FROM managed AS m WHERE m.client_id > c.client_id ORDER BY m.client_id LIMIT 1)
		FROM c WHERE c.client_id IS NOT NULL)
		SELECT id, client_id FROM (SELECT (SELECT m.id FROM managed AS m
			WHERE m.client_id = c.client_id AND m.due_at > 0 AND m.due_at <= $1 AND m.lease_until <= $1
			ORDER BY m.client_id, m.due_at LIMIT 1) AS id, client_id FROM c) AS d WHERE id IS NOT NULL LIMIT CAST($2 AS BIGINT)`

	// MATERIALIZED: PostgreSQL must not evaluate the select again for each row.
	// The first %s is a list of ids, the second is dialect.skipLocked.
	claimSQL = `WITH due AS MATERIALIZED (SELECT id FROM managed
		WHERE id IN (%s) AND due_at > 0 AND due_at <= $1 AND lease_until <= $1 %s)
		UPDATE managed SET lease_owner = $2, lease_until = $3 WHERE id IN (SELECT id FROM due) RETURNING ` + managedColumns
)

// maxDueClients limits the number of clients in one result of Due.
const maxDueClients = 4096

// Due returns due rows without a lease: first the earliest row of each client, then the
// second of each, and so on. If very many rows are due, it returns the earliest ones,
// and the earliest of each client.
func (s *certificateStore) Due(ctx context.Context) ([]managed.Due, error) {
	page, err := s.dueRows(ctx, duePageSQL, manyDue)
	if err == nil && len(page) == manyDue {
		var firsts []managed.Due
		if firsts, err = s.dueRows(ctx, dueOfClientsSQL, maxDueClients); err == nil {
			page = append(firsts, page...)
		}
	}
	if err != nil {
		return nil, s.Fail(err, "find due certificates")
	}
	return inTurns(page), nil
}

func (s *certificateStore) dueRows(ctx context.Context, query string, limit int) ([]managed.Due, error) {
	rows, err := s.Reader().QueryContext(ctx, query, sqldb.Millis(s.Now()), limit)
	return sqldb.Collect(rows, err, func(row sqldb.Scanner) (d managed.Due, err error) { return d, row.Scan(&d.ID, &d.ClientID) })
}

// inTurns sorts rows by their turns and removes duplicates.
func inTurns(rows []managed.Due) []managed.Due {
	seen, turns := map[string]bool{}, map[string]int{}
	sorted := rows[:0]
	for _, d := range rows {
		if !seen[d.ID] {
			seen[d.ID] = true
			d.Turn = turns[d.ClientID]
			turns[d.ClientID]++
			sorted = append(sorted, d)
		}
	}
	slices.SortStableFunc(sorted, func(a, b managed.Due) int { return cmp.Compare(a.Turn, b.Turn) })
	return sorted
}

// Claim leases the given rows to owner if they are due and have no lease, earliest
// first. A row has one owner as long as the lease is extended before it ends. At most
// 500 ids are allowed.
func (s *certificateStore) Claim(ctx context.Context, owner string, lease time.Duration, ids []string) ([]managed.Certificate, error) {
	if owner == "" {
		return nil, sqldb.ErrNoOwner
	}
	if len(ids) == 0 {
		return nil, nil
	}
	now := s.Now()
	args := []any{sqldb.Millis(now), owner, sqldb.Millis(now.Add(lease))}
	var list strings.Builder
	for i, id := range ids {
		args = append(args, id)
		fmt.Fprintf(&list, ", $%d", i+4)
	}
	query := fmt.Sprintf(claimSQL, list.String()[2:], s.SkipLocked()) //nolint:gosec // placeholders only
	var claimed []managed.Certificate
	err := s.Tx(ctx, func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, query, args...)
		claimed, err = sqldb.Collect(rows, err, scanManaged)
		return err
	})
	if err != nil {
		return nil, s.Fail(err, "claim due certificates")
	}
	slices.SortFunc(claimed, func(a, b managed.Certificate) int {
		return cmp.Or(a.DueAt.Compare(b.DueAt), cmp.Compare(a.ID, b.ID))
	})
	return claimed, nil
}

// ClaimDue claims up to limit (0: 100) due rows, of all clients in turn. It is for an
// owner that does not divide its workers among clients.
func (s *certificateStore) ClaimDue(ctx context.Context, owner string, lease time.Duration, limit int) ([]managed.Certificate, error) {
	const attempts = 100 // others may claim the same rows
	for range attempts {
		due, err := s.Due(ctx)
		if err != nil {
			return nil, err
		}
		var ids []string
		for _, d := range due[:min(len(due), sqldb.PageSize(limit))] {
			ids = append(ids, d.ID)
		}
		if rows, err := s.Claim(ctx, owner, lease, ids); err != nil || len(rows) > 0 || len(ids) == 0 {
			return rows, err
		}
	}
	return nil, nil
}
