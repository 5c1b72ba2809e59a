package sqldb

import (
	"context"
	"database/sql"
	"fmt"
)

// Querier is a *sql.DB or *sql.Tx.
type Querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// Scanner is a *sql.Row or *sql.Rows.
type Scanner interface{ Scan(dest ...any) error }

// Tx runs fn in one transaction, which is committed if fn returns nil. fn must not call
// other methods of db, because SQLite has one writer.
func (db *DB) Tx(ctx context.Context, fn func(*sql.Tx) error) error {
	tx, err := db.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // after Commit it does nothing
	if err := fn(tx); err != nil {
		return err
	}
	return tx.Commit()
}

// Exec runs one statement outside a transaction and returns the number of rows
// that it affected.
func (db *DB) Exec(ctx context.Context, query string, args ...any) (int64, error) {
	return Affected(db.write.ExecContext(ctx, query, args...))
}

// LockTable prevents other transactions from changing the rows of a table until the
// transaction ends. They can still read it and write rows that reference it.
func (db *DB) LockTable(ctx context.Context, tx *sql.Tx, table string) error {
	if db.dialect.lockTable == "" {
		return nil
	}
	_, err := tx.ExecContext(ctx, fmt.Sprintf(db.dialect.lockTable, table))
	return err
}

// LockText makes other transactions that lock the same text wait until this one ends. It
// is for a rule about many rows, such as a limit, that no index can enforce. The text
// should begin with the name of the part.
func (db *DB) LockText(ctx context.Context, tx Execer, text string) error {
	if db.dialect.lockText == "" {
		return nil
	}
	_, err := tx.ExecContext(ctx, db.dialect.lockText, text)
	return err
}

// Affected returns the number of rows that a statement affected.
func Affected(r sql.Result, err error) (int64, error) {
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

// Require returns missing if no row was affected.
func Require(n int64, err, missing error) error {
	if err == nil && n == 0 {
		return missing
	}
	return err
}

// Collect reads every row with scan and closes rows.
func Collect[T any](rows *sql.Rows, err error, scan func(Scanner) (T, error)) ([]T, error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close() // rows.Err says what went wrong
	var out []T
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, rows.Err()
}
