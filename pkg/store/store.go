package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/acmeproxy/acmeproxy/pkg/managed"
)

// Config says where the database is.
type Config struct {
	// Path of the SQLite file. It is created with mode 0600, and an existing
	// file is brought to that mode; its directory must exist.
	Path string
	// URL of a PostgreSQL database, in place of Path. The database must exist.
	URL string
	// Wait is how long Open waits for a PostgreSQL server that is not there yet;
	// 0: not at all. Waiting, if set, is called before each pause with the reason.
	Wait    time.Duration
	Waiting func(error)
	// Migrated, if set, is called after Open changed the schema.
	Migrated func(Migration)
	// Now tells the time for leases, due rows and expiry; nil means [time.Now].
	// It must be safe for concurrent use.
	Now func() time.Time
	// Trail bounds the audit trail.
	Trail Trail
}

// Store is an open database. Its methods may be used concurrently, also by
// several processes on the same database. All times are UTC, truncated to
// milliseconds; the zero time means "none".
type Store struct {
	write *sql.DB
	read  *sql.DB // SQLite's readers cannot write; with PostgreSQL it is write
	now   func() time.Time
	name  string // where the database is, without secrets
	db    dialect
	trail Trail

	listener *pgx.ConnConfig // of Listen's connection; nil: SQLite
}

// dialect is what the two databases do not have in common.
type dialect struct {
	// skipLocked ends the select of a claim.
	skipLocked string
	// classify turns the driver's error into one of this package's, or adds
	// the remedy; it returns errors that it does not know unchanged.
	classify func(error) error
	// snapshot begins a transaction that sees one state of all tables.
	snapshot *sql.TxOptions
	// exclusive begins a transaction that nobody else's work may come between.
	exclusive []string
	// lockClients keeps everybody else from changing a client until the
	// transaction ends; empty: a transaction does so by itself.
	lockClients string
	// others names the other instances that are connected; empty: nobody can tell.
	others string
}

// Open opens the database, creating a SQLite file when there is none, and brings
// its schema up to date; several instances may do so at once. A SQLite file with an
// older schema is first copied to a file beside it, whose name ends in .before-N,
// where N is that schema's version; the last two copies stay. The error names the
// database and the remedy, and no password.
func Open(ctx context.Context, c Config) (*Store, error) {
	s, m, err := open(ctx, c)
	if err != nil {
		return nil, err
	}
	s.trail = c.Trail.orDefaults()
	if c.Migrated != nil && len(m.Applied) > 0 {
		c.Migrated(m)
	}
	return s, nil
}

func open(ctx context.Context, c Config) (*Store, Migration, error) {
	now := c.Now
	if now == nil {
		now = time.Now
	}
	switch {
	case c.URL != "":
		return openPostgres(ctx, c, now)
	case c.Path != "":
		return openSQLite(ctx, c.Path, now)
	}
	return nil, Migration{}, errors.New("open database: path is empty: give the path of the database file")
}

// String says where the database is, without secrets.
func (s *Store) String() string { return s.name }

// Close waits for running statements and closes the database. Nothing that a
// method has acknowledged is lost without it.
func (s *Store) Close() error {
	return errors.Join(s.read.Close(), s.write.Close())
}

// Ping reports whether the database answers.
func (s *Store) Ping(ctx context.Context) error {
	var one int
	return s.fail(s.read.QueryRowContext(ctx, "SELECT 1").Scan(&one), "ping database")
}

// fail wraps a driver's error with what was being done; nil stays nil.
func (s *Store) fail(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	err = s.db.classify(err)
	if !isAnswer(err) {
		err = &managed.Fault{Err: err}
	}
	return fmt.Errorf(format+": %w", append(args, err)...)
}

// isAnswer reports whether an error says something about the rows.
func isAnswer(err error) bool {
	for _, known := range []error{
		managed.ErrNotFound, managed.ErrConflict, managed.ErrLost, managed.ErrStale, managed.ErrOwned, managed.ErrDisabled, managed.ErrTooMany,
		errNoOwner, context.Canceled,
	} {
		if errors.Is(err, known) {
			return true
		}
	}
	return false
}

// tx runs fn in one transaction. fn must not use s.write itself.
func (s *Store) tx(ctx context.Context, fn func(*sql.Tx) error) error {
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // after Commit it does nothing
	if err := fn(tx); err != nil {
		return err
	}
	return tx.Commit()
}

// exec runs one statement outside a transaction and returns the number of rows
// that it touched.
func (s *Store) exec(ctx context.Context, query string, args ...any) (int64, error) {
	return affected(s.write.ExecContext(ctx, query, args...))
}

func affected(r sql.Result, err error) (int64, error) {
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

// must turns "no row was touched" into missing.
func must(n int64, err, missing error) error {
	if err == nil && n == 0 {
		return missing
	}
	return err
}

// collect reads every row with scan and closes rows.
func collect[T any](rows *sql.Rows, err error, scan func(scanner) (T, error)) ([]T, error) {
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

// scanner is a *sql.Row or *sql.Rows.
type scanner interface{ Scan(dest ...any) error }

// claim completes the text of a claiming statement for this database.
func (s *Store) claim(query string) string {
	return fmt.Sprintf(query, s.db.skipLocked)
}
