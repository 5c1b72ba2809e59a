package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/store/sqldb"
	"github.com/acmeproxy/acmeproxy/pkg/trail"
)

// ApplyClients makes the store's clients match a.Clients, all or nothing. One
// transaction compares and changes them, and no other transaction changes a client
// meanwhile.
//
// A missing client is created without a credential. In an existing client, a replaces
// Disabled and Grants, and adds recipients to the present ones, which hosts may have
// enrolled. Applying the same again changes nothing. audit creates the entry that is
// stored with each change. If nil, nothing is recorded. It must be pure.
// ApplyClients returns [managed.ErrTooMany] if a client would have more recipients
// than a bundle can be sealed to.
func (s *clientStore) ApplyClients(ctx context.Context, a clients.Apply, audit func(clients.Change) trail.Entry) (clients.Applied, error) {
	var done clients.Applied
	err := s.Tx(ctx, func(tx *sql.Tx) error {
		if err := s.LockTable(ctx, tx, "clients"); err != nil {
			return err
		}
		have, err := queryClients(ctx, tx, allClientsSQL)
		if err != nil {
			return err
		}
		if done, err = planApply(a, have); err != nil {
			return err
		}
		if err := countCertificates(ctx, tx, done.Changes); err != nil || a.DryRun {
			return err
		}
		return s.carryOut(ctx, tx, audit, done.Changes)
	})
	if err != nil {
		return clients.Applied{}, s.Fail(err, "apply clients")
	}
	return done, nil
}

var allClientsSQL = fmt.Sprintf(clientsSQL, `TRUE`)

// planApply compares the stored clients with the desired ones, and returns every
// fault.
func planApply(a clients.Apply, have []clients.Client) (clients.Applied, error) {
	before := make(map[string]clients.Client, len(have))
	for _, c := range have {
		before[c.Name] = c
	}
	var plan clients.Applied
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
			plan.Changes = append(plan.Changes, clients.Change{Name: c.Name, Action: clients.Remove, Before: c})
		default:
			plan.Left = append(plan.Left, c.Name)
		}
	}
	slices.SortFunc(plan.Changes, func(x, y clients.Change) int { return cmp.Compare(x.Name, y.Name) })
	slices.Sort(plan.Left)
	return plan, errors.Join(faults...)
}

// planOne returns the change to one client, or a Change without an Action. before is
// the zero Client if the client does not exist.
func planOne(before, want clients.Client) (clients.Change, error) {
	want.ID, want.CreatedAt = before.ID, before.CreatedAt
	recipients, err := withRecipients(before.Recipients, want.Recipients)
	if err != nil {
		return clients.Change{}, err
	}
	want.Recipients = recipients
	change := clients.Change{Name: want.Name, Before: before, After: want}
	switch {
	case before.ID == "":
		change.Action = clients.Add
	case before.Disabled != want.Disabled || len(before.Recipients) != len(want.Recipients) || !slices.EqualFunc(before.Grants, want.Grants, clients.Grant.Equal):
		change.Action = clients.Alter
	}
	return change, nil
}

func countCertificates(ctx context.Context, tx *sql.Tx, changes []clients.Change) error {
	for i, c := range changes {
		if c.Action != clients.Remove {
			continue
		}
		if err := tx.QueryRowContext(ctx, countManagedSQL, c.Before.ID).Scan(&changes[i].Certificates); err != nil {
			return err
		}
	}
	return nil
}

const countManagedSQL = `SELECT COUNT(*) FROM managed WHERE client_id = $1`

// carryOut makes the changes and sets the ids of added clients. It appends the audit
// entries last, because all transactions share their counter.
func (s *clientStore) carryOut(ctx context.Context, tx *sql.Tx, audit func(clients.Change) trail.Entry, changes []clients.Change) error {
	var removed []string
	for i := range changes {
		if err := s.change(ctx, tx, &changes[i]); err != nil {
			return fmt.Errorf("client %s: %w", changes[i].Name, err)
		}
		if changes[i].Action == clients.Remove {
			removed = append(removed, changes[i].Before.ID)
		}
	}
	if err := s.audit.bounds.retire(ctx, tx, removed...); err != nil {
		return err
	}
	if audit == nil || len(changes) == 0 {
		return nil
	}
	entries := make([]trail.Entry, 0, len(changes))
	for _, c := range changes {
		entries = append(entries, audit(c))
	}
	return s.audit.append(ctx, tx, entries...)
}

func (s *clientStore) change(ctx context.Context, tx *sql.Tx, c *clients.Change) error {
	switch c.Action {
	case clients.Add:
		var err error
		c.After, err = s.insertClient(ctx, tx, c.After)
		return err
	case clients.Remove:
		return removeClient(ctx, tx, c.Before.ID)
	}
	recipients, err := sqldb.Lines("recipients", c.After.Recipients)
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
