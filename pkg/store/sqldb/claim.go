package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/managed"
)

// ErrNoOwner means that a lease was requested without an owner.
var ErrNoOwner = errors.New("lease owner is empty: give the id of this run")

// SkipLocked returns the end of a select whose rows are then claimed, so that two
// instances do not wait for each other.
func (db *DB) SkipLocked() string { return db.dialect.skipLocked }

// ExecHeld runs one statement that changes a row only while owner holds it. If no row
// was changed, it returns [managed.ErrLost].
func (db *DB) ExecHeld(ctx context.Context, owner, query string, args ...any) error {
	if owner == "" {
		return ErrNoOwner
	}
	n, err := db.Exec(ctx, query, args...)
	return Require(n, err, managed.ErrLost)
}

// Earliest returns the earliest of the times that the queries select, at most one
// each. The present time is $1. It returns [managed.ErrNotFound] if they select no
// time.
func (db *DB) Earliest(ctx context.Context, queries ...string) (time.Time, error) {
	var first time.Time
	for _, query := range queries {
		var t time.Time
		err := db.reader.QueryRowContext(ctx, query, Millis(db.now())).Scan(Time(&t))
		if errors.Is(err, sql.ErrNoRows) {
			continue
		}
		if err != nil {
			return time.Time{}, err
		}
		if first.IsZero() || t.Before(first) {
			first = t
		}
	}
	if first.IsZero() {
		return time.Time{}, managed.ErrNotFound
	}
	return first, nil
}

// Finds reports whether a query returns a row. It must select one text.
func (db *DB) Finds(ctx context.Context, query string, args ...any) (bool, error) {
	var id string
	err := db.reader.QueryRowContext(ctx, query, args...).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}
