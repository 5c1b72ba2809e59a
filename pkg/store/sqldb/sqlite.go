package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/acmeproxy/acmeproxy/pkg/managed"
)

// openSQLite opens the file at path with one writing connection and a pool of
// read-only ones. SQLite has one writer anyway, and a queue in Go is fairer than its
// busy handler.
func openSQLite(ctx context.Context, c Config) (_ *DB, m Migration, err error) {
	path := c.Path
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, m, fmt.Errorf("open database %s: %w", path, err)
	}
	if err := createPrivate(abs); err != nil {
		return nil, m, fmt.Errorf("open database %s: %w", path, err)
	}
	db := &DB{now: c.Now, name: path, parts: c.Parts, group: &group{}, dialect: dialect{classify: func(err error) error { return classifySQLite(path, err) }}}
	if db.write, err = sql.Open("sqlite", sqliteDSN(abs, "")); err != nil {
		return nil, m, fmt.Errorf("open database %s: %w", path, err)
	}
	if db.read, err = sql.Open("sqlite", sqliteDSN(abs, "&_query_only=1")); err != nil {
		return nil, m, errors.Join(fmt.Errorf("open database %s: %w", path, err), db.write.Close())
	}
	defer func() {
		if err != nil {
			_ = db.Close()
		}
	}()
	db.write.SetMaxOpenConns(1)
	db.reader = &prepared{db: db.read}
	db.statements = newStatements(db.write)
	readers := max(4, runtime.GOMAXPROCS(0))
	db.read.SetMaxOpenConns(readers)
	db.read.SetMaxIdleConns(readers)
	db.read.SetConnMaxIdleTime(5 * time.Minute) // each keeps a page cache
	if m, err = migrateSQLite(ctx, db.write, abs, c.Parts); err != nil {
		return nil, m, db.Fail(err, "open database %s", path)
	}
	if err := db.Ping(ctx); err != nil {
		return nil, m, fmt.Errorf("open database %s: %w", path, err)
	}
	return db, m, nil
}

// migrateSQLite migrates the schema, one process at a time, after it has copied the
// file.
func migrateSQLite(ctx context.Context, db *sql.DB, path string, parts []Part) (Migration, error) {
	release, err := lockUpgrade(ctx, path)
	if err != nil {
		return Migration{}, err
	}
	defer release()
	m, err := migrate(ctx, goose.DialectSQLite3, db, parts, func(version int64) (string, error) { return backUp(ctx, db, path, parts, version) })
	if err == nil {
		err = finishUpgrade(path)
	}
	return m, err
}

// sqliteDSN returns the address of the file at abs. With synchronous=FULL, the journal
// of an order survives a power failure. With secure_delete, deleted data cannot be
// read in free pages.
func sqliteDSN(abs, more string) string {
	return sqliteAddress(abs) +
		"?_txlock=immediate&_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)" +
		"&_pragma=foreign_keys(1)&_pragma=secure_delete(1)&_pragma=temp_store(MEMORY)" + more
}

func sqliteAddress(abs string) string { return "file:" + (&url.URL{Path: abs}).EscapedPath() }

// createPrivate creates the file if it is missing, and makes it writable and readable
// only by its owner. SQLite gives its journal files the same mode.
func createPrivate(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		reason := err
		if pe := (*fs.PathError)(nil); errors.As(err, &pe) {
			reason = pe.Err // the caller names the path
		}
		return fmt.Errorf("%w: check that the directory exists and that user id %d may write the file", reason, os.Geteuid())
	}
	info, err := f.Stat()
	if err == nil && info.Mode().Perm()&0o077 != 0 {
		err = f.Chmod(0o600)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("others may read it, and it cannot be made private: check that user id %d owns the file: %w", os.Geteuid(), err)
	}
	return nil
}

// classifySQLite maps SQLite's result codes.
func classifySQLite(path string, err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return managed.ErrNotFound
	}
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return err
	}
	switch e.Code() {
	case sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY, sqlite3.SQLITE_CONSTRAINT_UNIQUE:
		return managed.ErrConflict
	case sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY:
		return managed.ErrNotFound // the row that is referred to
	}
	switch e.Code() & 0xff { // the primary code
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return fmt.Errorf("%w: %s is damaged or not a database: restore a backup, or move the file away to begin with an empty one", err, path)
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM:
		return fmt.Errorf("%w: check that user id %d may write %s and the directory it is in", err, os.Geteuid(), path)
	case sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR:
		return fmt.Errorf("%w: check the free space and the health of the disk that holds %s", err, path)
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return fmt.Errorf("%w: another process holds %s: stop it, or give each its own data directory", err, path)
	}
	return err
}
