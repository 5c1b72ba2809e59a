package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"github.com/acmeproxy/acmeproxy/pkg/clients"
)

// Apply says what the clients are to be.
type Apply struct {
	// Clients are those to have, each name once; ID and CreatedAt are ignored.
	Clients []clients.Client
	// Prune removes every client that is not among Clients.
	Prune bool
	// DryRun changes nothing.
	DryRun bool
	// Audit makes the entry that is kept of a change, with the change or not at
	// all; nil: none. It must be pure.
	Audit func(ClientChange) AuditEntry
}

// ClientAction is what happens to a client.
type ClientAction string

// The actions of a ClientChange.
const (
	ClientAdd    ClientAction = "add"
	ClientAlter  ClientAction = "change"
	ClientRemove ClientAction = "remove"
)

// ClientChange is what Apply does to one client.
type ClientChange struct {
	Name          string
	Action        ClientAction
	Before, After clients.Client // the zero Client where there is none
	Certificates  int64          // that are removed with the client
}

// Applied is what Apply did, or would do.
type Applied struct {
	Changes   []ClientChange // ordered by name
	Unchanged int            // clients that were so already
	Left      []string       // names that are not among Apply's, ordered; those clients stay
}

// ApplyClients makes the store's clients match a.Clients, all or nothing. What
// is to be done is found out in the transaction that does it, and nobody else
// changes a client meanwhile.
//
// A client that is not there is made, without a credential. Of one that is
// there, Disabled and Grants become what a says, and a's recipients are added to
// those it has, which its hosts may have enrolled. To apply the same again
// changes nothing. [ErrTooMany] if a client would have more recipients than
// anything can be sealed to.
func (s *Store) ApplyClients(ctx context.Context, a Apply) (Applied, error) {
	var done Applied
	err := s.tx(ctx, func(tx *sql.Tx) error {
		if s.db.lockClients != "" {
			if _, err := tx.ExecContext(ctx, s.db.lockClients); err != nil {
				return err
			}
		}
		have, err := queryClients(ctx, tx, allClientsSQL)
		if err != nil {
			return err
		}
		if done, err = a.plan(have); err != nil {
			return err
		}
		if err := countCertificates(ctx, tx, done.Changes); err != nil || a.DryRun {
			return err
		}
		return s.carryOut(ctx, tx, a, done.Changes)
	})
	if err != nil {
		return Applied{}, s.fail(err, "apply clients")
	}
	return done, nil
}

var allClientsSQL = fmt.Sprintf(clientsSQL, `TRUE`)

// plan compares what there is with what there is to be. Every fault is reported.
func (a Apply) plan(have []clients.Client) (Applied, error) {
	before := make(map[string]clients.Client, len(have))
	for _, c := range have {
		before[c.Name] = c
	}
	var plan Applied
	var faults []error
	named := make(map[string]bool, len(a.Clients))
	for _, want := range a.Clients {
		if want.Name == "" || named[want.Name] {
			faults = append(faults, fmt.Errorf("client %q: give each client a name of its own", want.Name))
			continue
		}
		named[want.Name] = true
		change, err := planOne(before[want.Name], want)
		switch {
		case err != nil:
			faults = append(faults, fmt.Errorf("client %s: %w", want.Name, err))
		case change.Action == "":
			plan.Unchanged++
		default:
			plan.Changes = append(plan.Changes, change)
		}
	}
	for _, c := range have {
		switch {
		case named[c.Name]:
		case a.Prune:
			plan.Changes = append(plan.Changes, ClientChange{Name: c.Name, Action: ClientRemove, Before: c})
		default:
			plan.Left = append(plan.Left, c.Name)
		}
	}
	slices.SortFunc(plan.Changes, func(x, y ClientChange) int { return cmp.Compare(x.Name, y.Name) })
	slices.Sort(plan.Left)
	return plan, errors.Join(faults...)
}

// planOne plans for one client; before is the zero Client if there is none. A
// change without an action is none.
func planOne(before, want clients.Client) (ClientChange, error) {
	want.ID, want.CreatedAt = before.ID, before.CreatedAt
	recipients, err := withRecipients(before.Recipients, want.Recipients)
	if err != nil {
		return ClientChange{}, err
	}
	want.Recipients = recipients
	change := ClientChange{Name: want.Name, Before: before, After: want}
	switch {
	case before.ID == "":
		change.Action = ClientAdd
	case before.Disabled != want.Disabled || len(before.Recipients) != len(want.Recipients) || !slices.EqualFunc(before.Grants, want.Grants, clients.Grant.Equal):
		change.Action = ClientAlter
	}
	return change, nil
}

func countCertificates(ctx context.Context, tx *sql.Tx, changes []ClientChange) error {
	for i, c := range changes {
		if c.Action != ClientRemove {
			continue
		}
		if err := tx.QueryRowContext(ctx, countManagedSQL, c.Before.ID).Scan(&changes[i].Certificates); err != nil {
			return err
		}
	}
	return nil
}

const countManagedSQL = `SELECT COUNT(*) FROM managed WHERE client_id = $1`

// carryOut makes the changes, and gives those that are added their ids. The
// entries of the audit trail come last: their counter is everybody's.
func (s *Store) carryOut(ctx context.Context, tx *sql.Tx, a Apply, changes []ClientChange) error {
	var removed []string
	for i := range changes {
		if err := s.change(ctx, tx, &changes[i]); err != nil {
			return fmt.Errorf("client %s: %w", changes[i].Name, err)
		}
		if changes[i].Action == ClientRemove {
			removed = append(removed, changes[i].Before.ID)
		}
	}
	if err := s.trail.retire(ctx, tx, removed...); err != nil {
		return err
	}
	if a.Audit == nil || len(changes) == 0 {
		return nil
	}
	entries := make([]AuditEntry, 0, len(changes))
	for _, c := range changes {
		entries = append(entries, a.Audit(c))
	}
	return s.appendAudit(ctx, tx, entries...)
}

func (s *Store) change(ctx context.Context, tx *sql.Tx, c *ClientChange) error {
	switch c.Action {
	case ClientAdd:
		var err error
		c.After, err = s.insertClient(ctx, tx, c.After)
		return err
	case ClientRemove:
		return removeClient(ctx, tx, c.Before.ID)
	}
	recipients, err := lines("recipients", c.After.Recipients)
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, `UPDATE clients SET disabled = $2, recipients = $3 WHERE id = $1`,
		c.After.ID, c.After.Disabled, recipients); err != nil {
		return err
	}
	if slices.EqualFunc(c.Before.Grants, c.After.Grants, clients.Grant.Equal) {
		return nil
	}
	if _, err := tx.ExecContext(ctx, `DELETE FROM grants WHERE client_id = $1`, c.After.ID); err != nil {
		return err
	}
	return insertGrants(ctx, tx, c.After.ID, c.After.Grants)
}
