package store

import (
	"cmp"
	"context"
	"database/sql"
	"maps"
	"slices"

	"github.com/acmeproxy/acmeproxy/pkg/trail"
)

// Trail holds how many entries the audit trail keeps, by share. A share's oldest
// entries make room for its own new ones, and never for those of another. So no
// stranger can flush what is recorded of clients, and no client what is recorded
// of others.
type Trail struct {
	Own       int64 // of the administrator and of the proxy itself; 0: 200,000
	Strangers int64 // refusals of strangers, all together; 0: 10,000
	Client    int64 // what one client did; 0: 5,000
	Refused   int64 // what one client was refused; 0: 1,000
	Removed   int64 // of all clients that are removed, together; 0: 20,000
}

func (t Trail) orDefaults() Trail {
	return Trail{
		Own: cmp.Or(t.Own, 200_000), Strangers: cmp.Or(t.Strangers, 10_000),
		Client: cmp.Or(t.Client, 5_000), Refused: cmp.Or(t.Refused, 1_000), Removed: cmp.Or(t.Removed, 20_000),
	}
}

const (
	shareOwn       = ""
	shareStrangers = "strangers"
	shareRemoved   = "removed"
)

// share returns the name of an entry's share, and how many entries it holds.
func (t Trail) share(e trail.Entry) (name string, keep int64) {
	refused := e.Outcome == trail.Refused
	switch {
	case e.ClientID == "" && refused && e.Addr != trail.Admin:
		return shareStrangers, t.Strangers
	case e.ClientID == "" || e.Addr == trail.Admin:
		return shareOwn, t.Own
	case refused:
		return refusedShare(e.ClientID), t.Refused
	}
	return clientShare(e.ClientID), t.Client
}

func clientShare(clientID string) string  { return "client/" + clientID }
func refusedShare(clientID string) string { return "refused/" + clientID }

// counterAudit numbers all entries. Its row lock comes before those of the
// shares' counters, so that no two transactions wait for each other.
const counterAudit = "audit"

func counterShare(share string) string { return counterAudit + "/" + share }

// count takes n numbers in one go and returns the last of them: a counter's row
// must not be written very often in one transaction.
func count(ctx context.Context, tx *sql.Tx, counter string, n int64) (last int64, err error) {
	err = tx.QueryRowContext(ctx, `INSERT INTO counters (name, value) VALUES ($1, $2)
		ON CONFLICT (name) DO UPDATE SET value = counters.value + excluded.value RETURNING value`, counter, n).Scan(&last)
	return last, err
}

// places are the numbers that new entries take in their shares.
type places struct {
	next map[string]int64 // the number of the share's next entry
	keep map[string]int64
}

// takePlaces numbers the entries in their shares.
func (t Trail) takePlaces(ctx context.Context, tx *sql.Tx, entries []trail.Entry) (places, error) {
	p := places{next: map[string]int64{}, keep: map[string]int64{}}
	for _, e := range entries {
		share, keep := t.share(e)
		p.next[share]++
		p.keep[share] = keep
	}
	for _, share := range slices.Sorted(maps.Keys(p.next)) {
		last, err := count(ctx, tx, counterShare(share), p.next[share])
		if err != nil {
			return p, err
		}
		p.next[share] = last - p.next[share] + 1
	}
	return p, nil
}

// prunedAtOnce bounds what one entry removes beyond those that it displaces: a
// share that is far too large, because its bound was lowered, shrinks by steps.
const prunedAtOnce = 20

const pruneAuditSQL = `DELETE FROM audit WHERE id IN
	(SELECT id FROM audit WHERE share = $1 AND seq <= $2 ORDER BY seq LIMIT $3)`

// prune removes the oldest entries of each share that got n new ones.
func (p places) prune(ctx context.Context, tx *sql.Tx, n int) error {
	for _, share := range slices.Sorted(maps.Keys(p.next)) {
		oldest := p.next[share] - 1 - p.keep[share]
		if oldest <= 0 {
			continue
		}
		if _, err := tx.ExecContext(ctx, pruneAuditSQL, share, oldest, n+prunedAtOnce); err != nil {
			return err
		}
	}
	return nil
}

// retire gives the entries of removed clients to the share of them all, so
// that the trail does not grow with every client that there ever was. It locks
// the trail, so it comes last in a transaction.
func (t Trail) retire(ctx context.Context, tx *sql.Tx, clientIDs ...string) error {
	if len(clientIDs) == 0 {
		return nil
	}
	if _, err := count(ctx, tx, counterAudit, 0); err != nil {
		return err
	}
	for _, id := range clientIDs {
		for _, share := range []string{clientShare(id), refusedShare(id)} {
			if err := t.retireShare(ctx, tx, share); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t Trail) retireShare(ctx context.Context, tx *sql.Tx, share string) error {
	last, err := count(ctx, tx, counterShare(share), 0)
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, `DELETE FROM counters WHERE name = $1`, counterShare(share)); err != nil || last == 0 {
		return err
	}
	var first int64
	if err := tx.QueryRowContext(ctx, `SELECT COALESCE(MIN(seq), 0) FROM audit WHERE share = $1`, share).Scan(&first); err != nil || first == 0 {
		return err
	}
	n := last - first + 1
	end, err := count(ctx, tx, counterShare(shareRemoved), n)
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, `UPDATE audit SET share = $2, seq = seq + CAST($3 AS BIGINT) WHERE share = $1`, share, shareRemoved, end-last); err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, pruneAuditSQL, shareRemoved, end-t.Removed, n+prunedAtOnce)
	return err
}
