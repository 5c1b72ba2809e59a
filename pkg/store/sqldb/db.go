package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/acmeproxy/acmeproxy/pkg/managed"
)

// Config describes the database and its tables.
type Config struct {
	// Path of the SQLite file. It is created with mode 0600, and an existing
	// file is brought to that mode; its directory must exist.
	Path string
	// URL of a PostgreSQL database, instead of Path. The database must exist.
	URL string
	// Wait is how long Open waits for a PostgreSQL server that is unreachable; 0: not
	// at all. Waiting, if set, is called before each pause with the reason.
	Wait    time.Duration
	Waiting func(error)
	// Migrated, if set, is called after Open changed the schema.
	Migrated func(Migration)
	// Now returns the time for leases, due rows and expiry. If nil, it is [time.Now].
	// It must be safe for concurrent use.
	Now func() time.Time
	// Parts own the tables, in the order in which they are migrated and copied. A
	// part may refer to the tables of earlier parts. At least one part is needed.
	Parts []Part
}

// DB is an open database. Its methods may be used concurrently, also by several
// processes on the same database. All times are UTC, truncated to milliseconds. The
// zero time means that a row has no such time.
type DB struct {
	write   *sql.DB
	read    *sql.DB // read-only with SQLite; the same as write with PostgreSQL
	reader  Querier // read, with SQLite's statements prepared
	now     func() time.Time
	name    string // where the database is, without secrets
	parts   []Part
	dialect dialect

	statements *statements     // of Prepared; nil with PostgreSQL
	group      *group          // of Grouped; nil with PostgreSQL, whose writers do not wait for each other
	listener   *pgx.ConnConfig // of Listen's connection; nil with SQLite
}

// dialect holds the differences between the two databases.
type dialect struct {
	// skipLocked ends the select of a claim.
	skipLocked string
	// classify turns the driver's error into one of package managed, or adds the
	// remedy. It returns other errors unchanged.
	classify func(error) error
	// snapshot begins a transaction that sees one state of all tables.
	snapshot *sql.TxOptions
	// exclusive returns the statements that make a transaction run alone on these
	// tables. If nil, every transaction does.
	exclusive func(tables []string) []string
	// lockTable prevents other transactions from changing a table's rows until the
	// transaction ends, with %s for the table. If empty, every transaction does.
	lockTable string
	// lockText locks the text $1 until the transaction ends. If empty, every transaction
	// runs alone.
	lockText string
	// others selects the names of the other connected instances. If empty, they are
	// unknown.
	others string
}

// Open opens the database and brings its schema up to date. It creates a missing
// SQLite file. Several instances may do so at once. A SQLite file with an older schema
// is first copied to a file in its directory, whose name ends in .before-N, where N is
// that schema's version. The last two copies stay. The error names the database and
// the remedy, and no password.
func Open(ctx context.Context, c Config) (*DB, error) {
	db, m, err := open(ctx, c)
	if err != nil {
		return nil, err
	}
	if c.Migrated != nil && len(m.Applied) > 0 {
		c.Migrated(m)
	}
	return db, nil
}

// Migrate brings the schema up to date, as Open does, and returns the changes.
func Migrate(ctx context.Context, c Config) (Migration, error) {
	db, m, err := open(ctx, c)
	if err != nil {
		return m, err
	}
	return m, db.Close()
}

func open(ctx context.Context, c Config) (*DB, Migration, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	if err := checkParts(c.Parts); err != nil {
		return nil, Migration{}, fmt.Errorf("open database: %w", err)
	}
	switch {
	case c.URL != "":
		return openPostgres(ctx, c)
	case c.Path != "":
		return openSQLite(ctx, c)
	}
	return nil, Migration{}, errors.New("open database: path is empty: give the path of the database file")
}

// String returns the path or URL of the database, without secrets.
func (db *DB) String() string { return db.name }

// Now returns the time by the clock that Open was given.
func (db *DB) Now() time.Time { return db.now() }

// Reader runs statements that only read, outside a transaction. On SQLite they cannot
// write, and are compiled once, so values belong into placeholders. SQLite compiles a
// statement again each time if its LIMIT is a bare placeholder, since the plan may depend
// on it, but not with LIMIT CAST($1 AS BIGINT).
func (db *DB) Reader() Querier { return db.reader }

// Close waits for running statements and closes the database. A process that ends
// without it loses nothing that a method has acknowledged.
func (db *DB) Close() error {
	return errors.Join(db.read.Close(), db.write.Close())
}

// Ping reports whether the database answers.
func (db *DB) Ping(ctx context.Context) error {
	var one int
	return db.Fail(db.read.QueryRowContext(ctx, "SELECT 1").Scan(&one), "ping database")
}

// Fail wraps a driver's error with a description of the operation. It returns nil for
// nil. An error about the rows becomes one of package managed, and any other error a
// [managed.Fault].
func (db *DB) Fail(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	err = db.dialect.classify(err)
	if !isAnswer(err) {
		err = &managed.Fault{Err: err}
	}
	return fmt.Errorf(format+": %w", append(args, err)...)
}

// isAnswer reports whether an error is about the rows or the request, not about the
// database.
func isAnswer(err error) bool {
	for _, known := range []error{
		managed.ErrNotFound, managed.ErrConflict, managed.ErrLost, managed.ErrStale, managed.ErrOwned, managed.ErrShared, managed.ErrDisabled, managed.ErrTooMany,
		managed.ErrRecipients, managed.ErrNotText, ErrNoOwner, context.Canceled,
	} {
		if errors.Is(err, known) {
			return true
		}
	}
	return false
}
