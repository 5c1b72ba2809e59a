package store

import (
	"cmp"
	"context"
	"database/sql"
	"maps"
	"slices"

	"github.com/acmeproxy/acmeproxy/pkg/store/sqldb"
	"github.com/acmeproxy/acmeproxy/pkg/trail"
)

// Trail sets how many entries the audit trail retains, by share. New entries displace
// only the oldest ones of their own share. So unknown callers cannot displace the
// entries of clients, and no client can displace those of others.
type Trail struct {
	Own       int64 // of the administrator and of the proxy itself; 0: 200,000
	Strangers int64 // refusals of all unknown callers together; 0: 10,000
	Client    int64 // actions of one client; 0: 5,000
	Refused   int64 // refusals of one client; 0: 1,000
	Removed   int64 // of all removed clients together; 0: 20,000
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

// share returns the name of an entry's share, and how many entries it retains.
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

// counterAudit numbers all entries. Its row is locked before those of the shares'
// counters, so that no two transactions deadlock.
const counterAudit = "audit"

func counterShare(share string) string { return counterAudit + "/" + share }

// count takes n numbers at once and returns the last of them. One transaction must not
// write a counter's row very often.
func count(ctx context.Context, tx sqldb.Execer, counter string, n int64) (last int64, err error) {
	err = tx.QueryRowContext(ctx, `INSERT INTO counters (name, value) VALUES ($1, $2)
		ON CONFLICT (name) DO UPDATE SET value = counters.value + excluded.value RETURNING value`, counter, n).Scan(&last)
	return last, err
}

// places holds the numbers of new entries in their shares.
type places struct {
	next map[string]int64 // the number of the share's next entry
	keep map[string]int64
}

// takePlaces numbers the entries in their shares.
func (t Trail) takePlaces(ctx context.Context, tx sqldb.Execer, entries []trail.Entry) (places, error) {
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

// prunedAtOnce is how many entries one new entry removes in addition to the one that it
// displaces. So a share shrinks in steps after its limit was lowered.
const prunedAtOnce = 20

const pruneAuditSQL = `DELETE FROM audit WHERE id IN
	(SELECT id FROM audit WHERE share = $1 AND seq <= $2 ORDER BY seq LIMIT CAST($3 AS BIGINT))`

// prune removes the oldest entries of each share that got n new ones.
func (p places) prune(ctx context.Context, tx sqldb.Execer, n int) error {
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

// retire moves the entries of removed clients to a common share, so that the trail does
// not grow with each removed client. It locks the trail, so it must be last in a
// transaction.
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
