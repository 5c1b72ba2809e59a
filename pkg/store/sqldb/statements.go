package sqldb

import (
	"context"
	"database/sql"
	"sync"
)

// Execer is a Querier that writes: a *sql.DB, a *sql.Tx, or the result of [DB.Prepared].
type Execer interface {
	Querier
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// Prepared returns tx with statements that are compiled once and not at each use, for
// transactions of [DB.Grouped]. SQLite needs more time to compile a small statement
// than to run it. pgx does the same for PostgreSQL.
//
// The statements stay until the database is closed, so the queries must be a fixed set
// of texts with placeholders. The rows of a query must be closed before it is used again.
func (db *DB) Prepared(tx *sql.Tx) Execer {
	if db.statements == nil {
		return tx
	}
	return preparedTx{tx, db.statements}
}

// statements holds the statements of SQLite's one writer. A transaction has its
// connection, so a new one is compiled between two transactions.
type statements struct {
	db     *sql.DB
	mu     sync.Mutex
	ready  map[string]*sql.Stmt // guarded by mu, by query
	wanted map[string]bool      // guarded by mu: queries to be compiled
}

func newStatements(db *sql.DB) *statements {
	return &statements{db: db, ready: map[string]*sql.Stmt{}, wanted: map[string]bool{}}
}

// find returns the statement of a query. If it returns nil, the query is compiled soon.
func (s *statements) find(query string) *sql.Stmt {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := s.ready[query]
	if found == nil {
		s.wanted[query] = true
	}
	return found
}

// prepare compiles what transactions wanted. An error is that of the query, and its next
// use shows it.
func (s *statements) prepare(ctx context.Context) {
	s.mu.Lock()
	wanted := s.wanted
	if len(wanted) > 0 {
		s.wanted = map[string]bool{}
	}
	s.mu.Unlock()
	for query := range wanted {
		statement, err := s.db.PrepareContext(ctx, query) //nolint:sqlclosecheck // it stays
		if err != nil {
			continue
		}
		s.mu.Lock()
		s.ready[query] = statement
		s.mu.Unlock()
	}
}

// preparedTx is a transaction that uses compiled statements.
type preparedTx struct {
	*sql.Tx
	statements *statements
}

// ExecContext implements [Execer].
func (p preparedTx) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	s := p.statements.find(query)
	if s == nil {
		return p.Tx.ExecContext(ctx, query, args...)
	}
	return p.StmtContext(ctx, s).ExecContext(ctx, args...) //nolint:sqlclosecheck // the transaction does
}

// QueryContext implements [Querier].
func (p preparedTx) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	s := p.statements.find(query)
	if s == nil {
		return p.Tx.QueryContext(ctx, query, args...)
	}
	return p.StmtContext(ctx, s).QueryContext(ctx, args...) //nolint:sqlclosecheck // the transaction does
}

// QueryRowContext implements [Querier].
func (p preparedTx) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	s := p.statements.find(query)
	if s == nil {
		return p.Tx.QueryRowContext(ctx, query, args...)
	}
	return p.StmtContext(ctx, s).QueryRowContext(ctx, args...) //nolint:sqlclosecheck // the transaction does
}
