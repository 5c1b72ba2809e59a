package sqldb

import (
	"context"
	"database/sql"
	"sync"
)

// prepared compiles each query once for each connection. SQLite needs more time to
// compile a lookup than to run it. pgx does the same for PostgreSQL.
//
// Statements stay until the database is closed, so the queries must be a fixed set
// of texts with placeholders.
type prepared struct {
	db         *sql.DB
	statements sync.Map // of *sql.Stmt, by query
}

func (p *prepared) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	s, err := p.statement(ctx, query) //nolint:sqlclosecheck // it stays
	if err != nil {
		return nil, err
	}
	return s.QueryContext(ctx, args...)
}

func (p *prepared) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	s, err := p.statement(ctx, query) //nolint:sqlclosecheck // it stays
	if err != nil {                   // a Row with an error can only come from the database
		return p.db.QueryRowContext(ctx, query, args...)
	}
	return s.QueryRowContext(ctx, args...)
}

func (p *prepared) statement(ctx context.Context, query string) (*sql.Stmt, error) {
	if s, ok := p.statements.Load(query); ok {
		return s.(*sql.Stmt), nil
	}
	s, err := p.db.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	first, loaded := p.statements.LoadOrStore(query, s)
	if loaded {
		_ = s.Close() //nolint:sqlclosecheck // another caller was faster
	}
	return first.(*sql.Stmt), nil
}
