package store

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"strings"

	"github.com/acmeproxy/acmeproxy/pkg/store/sqldb"
	"github.com/acmeproxy/acmeproxy/pkg/trail"
)

const appendAuditSQL = `INSERT INTO audit (id, at, client_id, client_name, addr, action, mode, names, outcome, detail, share, seq)
	VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`

// AppendAudit adds entries. It stores separate shares: refusals of unknown callers, the
// actions of each client, the refusals of each client, and the actions of the
// administrator and the proxy itself. Each share retains the newest entries up to a
// limit.
func (s *auditStore) AppendAudit(ctx context.Context, entries ...trail.Entry) error {
	err := s.Grouped(ctx, func(ctx context.Context, tx *sql.Tx) error { return s.append(ctx, s.Prepared(tx), entries...) })
	return s.Fail(err, "append to audit trail")
}

// AppendAuditLazily is AppendAudit for entries that may wait for another write. They
// survive the end of the process. They are on the disk when the next write of another
// method is.
func (s *auditStore) AppendAuditLazily(ctx context.Context, entries ...trail.Entry) error {
	err := s.Lazily(ctx, func(ctx context.Context, tx *sql.Tx) error { return s.append(ctx, s.Prepared(tx), entries...) })
	return s.Fail(err, "append to audit trail")
}

// append adds entries in order, each to its share, and removes a share's oldest ones.
// It locks the trail, so it must be last in a transaction.
func (s *auditStore) append(ctx context.Context, tx sqldb.Execer, entries ...trail.Entry) error {
	if len(entries) == 0 {
		return nil
	}
	last, err := count(ctx, tx, counterAudit, int64(len(entries)))
	if err != nil {
		return err
	}
	places, err := s.bounds.takePlaces(ctx, tx, entries)
	if err != nil {
		return err
	}
	for i, e := range entries {
		if e.At.IsZero() {
			e.At = s.Now()
		}
		share, _ := s.bounds.share(e)
		id := last - int64(len(entries)-1-i)
		if _, err := tx.ExecContext(ctx, appendAuditSQL, id, sqldb.Millis(e.At), e.ClientID, sqldb.CleanText(e.ClientName), sqldb.CleanText(e.Addr),
			sqldb.CleanText(e.Action), sqldb.CleanText(string(e.Mode)), sqldb.CleanLines(e.Names), sqldb.CleanText(e.Outcome), sqldb.CleanText(e.Detail), share, places.next[share]); err != nil {
			return err
		}
		places.next[share]++
	}
	return places.prune(ctx, tx, len(entries))
}

// Audit returns entries, newest first. The id of the last one is the Before of the
// next page. An empty page is the end.
func (s *auditStore) Audit(ctx context.Context, q trail.Query) ([]trail.Entry, error) {
	query, args := auditSQL(q)
	rows, err := s.Reader().QueryContext(ctx, query, args...)
	found, err := sqldb.Collect(rows, err, scanAudit)
	return found, s.Fail(err, "read audit trail")
}

// likeEscape escapes the wildcards of LIKE with the character !.
var likeEscape = strings.NewReplacer("!", "!!", "%", "!%", "_", "!_")

// auditSQL returns a query with only the conditions that q sets, so that each
// combination of client and outcome has an index. Name and Since have none, because
// they are rare and the trail is bounded.
func auditSQL(q trail.Query) (string, []any) {
	before := q.Before
	if before <= 0 {
		before = math.MaxInt64
	}
	args := []any{before, sqldb.PageSize(q.Limit)}
	where := []string{"id < $1"}
	for _, c := range []struct{ column, value string }{{"client_name", q.Client}, {"outcome", q.Outcome}} {
		if c.value != "" {
			args = append(args, c.value)
			where = append(where, fmt.Sprintf("%s = $%d", c.column, len(args)))
		}
	}
	if !q.Since.IsZero() {
		args = append(args, sqldb.Millis(q.Since))
		where = append(where, fmt.Sprintf("at >= $%d", len(args)))
	}
	if q.Name != "" { // a line of the column
		args = append(args, "%\n"+likeEscape.Replace(q.Name)+"\n%")
		where = append(where, fmt.Sprintf("'\n' || names || '\n' LIKE $%d ESCAPE '!'", len(args)))
	}
	return `SELECT id, at, client_id, client_name, addr, action, mode, names, outcome, detail FROM audit WHERE ` +
		strings.Join(where, " AND ") + ` ORDER BY id DESC LIMIT $2`, args
}

func scanAudit(row sqldb.Scanner) (e trail.Entry, err error) {
	err = row.Scan(&e.ID, sqldb.Time(&e.At), &e.ClientID, &e.ClientName, &e.Addr, &e.Action, &e.Mode, sqldb.List(&e.Names), &e.Outcome, &e.Detail)
	return e, err
}
