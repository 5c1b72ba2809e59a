package sqlstore

import (
	"context"
	"database/sql"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/store/sqldb"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Part returns the tables and migrations of the ACME server.
func Part() sqldb.Part {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		panic(err) // the folder is embedded above
	}
	return sqldb.Part{
		Name: "acme", Migrations: files,
		Tables: []string{"acme_secrets", "acme_nonces", "acme_accounts", "acme_orders", "acme_authorized", "acme_certificates"},
	}
}

// Store implements [acmeserver.Storage]. Its methods may be used concurrently.
type Store struct{ db *sqldb.DB }

// New returns the storage in a database that was opened with [Part]. The caller closes
// the database.
func New(db *sqldb.DB) *Store { return &Store{db} }

// answers holds the errors that are no faults of the database.
var answers = []error{
	acmeserver.ErrNotFound, acmeserver.ErrExists, acmeserver.ErrStale, acmeserver.ErrTurn,
	acmeserver.ErrReplaced, acmeserver.ErrTooMany, errNoOwner,
}

// fail wraps an error with a description of the operation. It returns nil for nil.
func (s *Store) fail(err error, format string, args ...any) error {
	for _, answer := range answers {
		if errors.Is(err, answer) {
			return fmt.Errorf(format+": %w", append(args, err)...)
		}
	}
	return s.db.Fail(err, format, args...)
}

// lookup is fail for a query of one row. A text that PostgreSQL cannot store is not
// found.
func (s *Store) lookup(err error, format string, args ...any) error {
	if e := s.db.Fail(err, "look up"); errors.Is(e, managed.ErrNotFound) || errors.Is(e, managed.ErrNotText) {
		err = acmeserver.ErrNotFound
	}
	return s.fail(err, format, args...)
}

// isConflict reports whether a statement violated a unique index.
func (s *Store) isConflict(err error) bool {
	return errors.Is(s.db.Fail(err, "write"), managed.ErrConflict)
}

// write runs a function in a transaction as DB.Grouped does, with statements that are
// compiled once.
func (s *Store) write(ctx context.Context, run func(ctx context.Context, tx sqldb.Execer) error) error {
	return s.db.Grouped(ctx, func(ctx context.Context, tx *sql.Tx) error { return run(ctx, s.db.Prepared(tx)) })
}

// writeUnsynced is write for what must survive the end of the process only.
func (s *Store) writeUnsynced(ctx context.Context, run func(ctx context.Context, tx sqldb.Execer) error) error {
	return s.db.Unsynced(ctx, func(ctx context.Context, tx *sql.Tx) error { return run(ctx, s.db.Prepared(tx)) })
}

// insert runs an INSERT … ON CONFLICT DO NOTHING, and returns ErrExists if there was a
// conflict.
func insert(ctx context.Context, tx sqldb.Execer, query string, args ...any) error {
	n, err := sqldb.Affected(tx.ExecContext(ctx, query, args...))
	return sqldb.Require(n, err, acmeserver.ErrExists)
}

// checkLimit returns ErrTooMany if a query counts more than most. The query gets most+1
// as its last argument, the number of rows that it must read.
func checkLimit(ctx context.Context, tx sqldb.Execer, most int, query string, args ...any) error {
	var n int
	if err := tx.QueryRowContext(ctx, query, append(args, most+1)...).Scan(&n); err != nil {
		return err
	}
	if n > most {
		return acmeserver.ErrTooMany
	}
	return nil
}

// toJSON returns the column's form of a value. All types that are stored can be encoded.
func toJSON(v any) (string, error) {
	b, err := json.Marshal(v)
	return string(b), err
}

// fromJSON returns the scanner of a column of JSON into to, which must be a pointer to
// its zero value. An empty column leaves it.
func fromJSON(to any) sql.Scanner { return jsonScanner{to} }

type jsonScanner struct{ to any }

// Scan implements [sql.Scanner].
func (j jsonScanner) Scan(v any) error {
	s, ok := v.(string)
	if !ok {
		return fmt.Errorf("JSON column holds %T, not text", v)
	}
	if s == "" {
		return nil
	}
	return json.Unmarshal([]byte(s), j.to)
}
