package store

import (
	"context"
	"fmt"
	"strings"

	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/store/sqldb"
)

// FindManaged returns a page of the managed certificates that q selects, ordered by id.
// An empty page is the end. A superseded certificate is not found by its names.
func (s *certificateStore) FindManaged(ctx context.Context, q managed.Query) ([]managed.Certificate, error) {
	query, args := findSQL(q)
	rows, err := s.Reader().QueryContext(ctx, query, args...)
	found, err := sqldb.Collect(rows, err, scanManaged)
	return found, s.Fail(err, "find managed certificates")
}

// findSQL returns the query of FindManaged.
func findSQL(q managed.Query) (query string, args []any) {
	where := []string{"id > $1"}
	args = []any{q.After}
	add := func(condition string, arg any) {
		args = append(args, arg)
		where = append(where, fmt.Sprintf(condition, len(args)))
	}
	if q.Client != nil {
		add("client_id = $%d", *q.Client)
	}
	if q.Name != "" {
		add("id IN (SELECT managed_id FROM managed_names WHERE name = $%[1]d UNION SELECT id FROM managed WHERE client_id = '' AND name = $%[1]d)", q.Name)
	}
	if q.Failing {
		where = append(where, "id IN (SELECT id FROM managed WHERE last_error_at > 0 UNION SELECT id FROM managed WHERE revoked_at > 0 AND superseded_at = 0 UNION SELECT managed_id FROM hooks_pending WHERE last_error <> '')")
	}
	if !q.ExpiresBefore.IsZero() {
		add("not_after > 0 AND not_after < $%d", sqldb.Millis(q.ExpiresBefore))
	}
	args = append(args, sqldb.PageSize(q.Limit))
	return fmt.Sprintf(`SELECT `+managedColumns+` FROM managed WHERE %s ORDER BY id LIMIT $%d`, strings.Join(where, " AND "), len(args)), args
}
