package store

import (
	"context"
	"database/sql"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/store/sqldb"
)

const (
	triedAtOnce = 50          // rows that TryFailing makes due at once, after that many quiet minutes
	triedApart  = time.Minute // between further ones, so that they leave the CA's limits to others
)

// turns plans the rows that TryFailing makes due. All calls share one plan, in all
// processes on one database, so that neither a crash loop nor many reloads exceed it.
type turns struct{ usedUntil time.Time } // each row uses a minute

// counterTurns holds turns.usedUntil in milliseconds.
const counterTurns = "turns"

// lockTurns reads the plan. No other transaction reads it before this one has ended.
func lockTurns(ctx context.Context, tx *sql.Tx) (t turns, err error) {
	err = tx.QueryRowContext(ctx, `INSERT INTO counters (name, value) VALUES ($1, 0)
		ON CONFLICT (name) DO UPDATE SET value = counters.value RETURNING value`, counterTurns).Scan(sqldb.Time(&t.usedUntil))
	return t, err
}

// take returns when the next row may be attempted, and counts it. It returns false if
// the plan is full: the row's own next attempt comes first.
func (t *turns) take(now time.Time) (at time.Time, ok bool) {
	const burst = triedAtOnce * triedApart
	if t.usedUntil.Before(now) || t.usedUntil.After(now.Add(triesLife+burst)) { // the clock was wrong
		t.usedUntil = now
	}
	next := t.usedUntil.Add(triedApart)
	if at = next.Add(-burst); at.Before(now) {
		at = now
	}
	if at.After(now.Add(triesLife)) {
		return at, false
	}
	t.usedUntil = next
	return at, true
}

func (t *turns) save(ctx context.Context, tx *sql.Tx) error {
	_, err := tx.ExecContext(ctx, `UPDATE counters SET value = $2 WHERE name = $1`, counterTurns, sqldb.Millis(t.usedUntil))
	return err
}
