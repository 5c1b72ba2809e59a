package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/store/sqldb"
	"github.com/acmeproxy/acmeproxy/pkg/trail"
)

// maxOwners limits the number of clients that a request can take names from, because
// all of them are locked.
const maxOwners = 16

// Register makes the proxy manage a certificate, as EnsureManaged does, under r's
// conditions. A name that its owner does not hold any more passes to the client. In the
// same transaction, the owner's rows with that name are superseded and the change is
// audited. A superseded row is never due again and has no names.
//
// Register returns [managed.ErrTooMany] if the row would exceed r.Limit. Then nothing
// changes. The other errors are those of EnsureManaged.
func (s *certificateStore) Register(ctx context.Context, r managed.Registration) (stored managed.Certificate, created bool, err error) {
	names, err := sqldb.Lines("names", r.Names)
	if err == nil && len(r.Names) == 0 {
		err = errors.New("names: missing; give at least one")
	}
	if err != nil {
		return managed.Certificate{}, false, fmt.Errorf("manage certificate: %w", err)
	}
	var owners []string
	for {
		w := registering{certificateStore: s, Registration: r, names: names, hash: namesHash(r.Names), owners: owners}
		err = s.Tx(ctx, func(tx *sql.Tx) error { return w.run(ctx, tx) })
		var owned *ownedError
		if err == nil {
			return w.stored, w.created, nil
		}
		// The owners of the names are known only now, and clients are locked in one order.
		if r.Holds == nil || !errors.As(err, &owned) || slices.Contains(owners, owned.owner) || len(owners) == maxOwners {
			return managed.Certificate{}, false, s.Fail(err, "manage certificate for %s", r.Names[0])
		}
		owners = append(owners, owned.owner)
	}
}

// registering holds the state of one attempt of Register.
type registering struct {
	*certificateStore
	managed.Registration
	names, hash string
	owners      []string // clients that own requested names
	stored      managed.Certificate
	created     bool
}

func (w *registering) run(ctx context.Context, tx *sql.Tx) error {
	if err := w.lock(ctx, tx); err != nil {
		return err
	}
	entries, err := w.take(ctx, tx)
	if err != nil {
		return err
	}
	if err := w.put(ctx, tx); err != nil {
		return err
	}
	return w.audit.append(ctx, tx, entries...)
}

// lock locks the client and the owners of names that may pass to it.
func (w *registering) lock(ctx context.Context, tx *sql.Tx) error {
	for _, id := range sorted(append(slices.Clone(w.owners), w.ClientID)) {
		err := lockClient(ctx, tx, id)
		if errors.Is(err, managed.ErrNotFound) && id != w.ClientID {
			continue // removed, and its names with it
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// take makes the client the owner of all names, and returns the audit entries about
// rows that lost one.
func (w *registering) take(ctx context.Context, tx *sql.Tx) (entries []trail.Entry, err error) {
	for {
		err := takeNames(ctx, tx, w.ClientID, w.Names)
		var owned *ownedError
		if err == nil || !errors.As(err, &owned) || !slices.Contains(w.owners, owned.owner) {
			return entries, err
		}
		lost, refused := w.supersede(ctx, tx, owned)
		if refused != nil {
			return nil, refused
		}
		for _, row := range lost {
			if w.Audit != nil {
				entries = append(entries, w.Audit(row))
			}
		}
	}
}

// put creates the row, or updates its specification.
func (w *registering) put(ctx context.Context, tx *sql.Tx) error {
	have, err := scanManaged(tx.QueryRowContext(ctx, managedByNamesSQL, w.ClientID, w.Mode, w.hash))
	missing := errors.Is(err, sql.ErrNoRows)
	if err != nil && !missing {
		return err
	}
	if !missing && have.SupersededAt.IsZero() && have.SameSpec(w.Certificate) {
		w.stored = have
		return nil
	}
	if missing {
		if err := w.room(ctx, tx); err != nil {
			return err
		}
	}
	p, err := w.pause(ctx, tx, have)
	if err != nil {
		return err
	}
	id := sqldb.NewID()
	due := w.due(&p)
	if w.stored, err = scanManaged(tx.QueryRowContext(ctx, upsertManagedSQL, id, w.ClientID, w.Mode, w.names, w.hash,
		w.KeyType, w.Profile, sqldb.Blob(w.CSR), sqldb.Millis(w.Now()), sqldb.Millis(due), p.failures, p.lastError,
		sqldb.Millis(p.lastErrorAt), w.Name, sqldb.Millis(p.waitUntil), sqldb.Millis(p.retryAt))); err != nil {
		return err
	}
	if w.Pause.Every > 0 || w.Tries != (managed.Tries{}) {
		if err := w.savePause(ctx, tx, w.ClientID, w.hash, p); err != nil {
			return err
		}
	}
	w.created = w.stored.ID == id
	if err := linkNames(ctx, tx, w.stored.ID, w.Names); err != nil || w.created {
		return err
	}
	_, err = tx.ExecContext(ctx, `DELETE FROM orders WHERE managed_id = $1`, w.stored.ID)
	return err
}

// due counts the request and returns when the row is due. Another specification of a
// failing row is tried at once, within the limits of tries.
func (w *registering) due(p *pause) time.Time {
	now := w.Now()
	if !p.isFailing() {
		return p.ask(w.Pause, now)
	}
	err := p.try(w.Tries, now)
	var later *managed.NotNow
	if errors.As(err, &later) {
		return later.At
	}
	return now
}

// pause reads the stored pause of the names. An existing row has its own failures.
// Without a limit of tries, they are ignored.
func (w *registering) pause(ctx context.Context, tx *sql.Tx, have managed.Certificate) (pause, error) {
	p, err := readPause(ctx, tx, w.ClientID, w.hash)
	if have.ID != "" {
		p.setFailures(have)
	}
	if w.Tries == (managed.Tries{}) {
		p.setFailures(managed.Certificate{})
	}
	return p, err
}

// roomSQL counts rows only up to the limit.
const roomSQL = `SELECT COUNT(*) FROM (SELECT 1 FROM managed WHERE client_id = $1 ORDER BY id LIMIT $2) AS found`

func (w *registering) room(ctx context.Context, tx *sql.Tx) error {
	if w.Limit <= 0 {
		return nil
	}
	var n int
	if err := tx.QueryRowContext(ctx, roomSQL, w.ClientID, w.Limit).Scan(&n); err != nil {
		return err
	}
	if n >= w.Limit {
		return fmt.Errorf("%d managed certificates: %w", n, managed.ErrTooMany)
	}
	return nil
}

// HasRoom reports whether a client has fewer than limit managed certificates.
func (s *certificateStore) HasRoom(ctx context.Context, clientID string, limit int) (bool, error) {
	var n int
	err := s.Reader().QueryRowContext(ctx, roomSQL, clientID, limit).Scan(&n)
	return n < limit, s.Fail(err, "count managed certificates")
}
