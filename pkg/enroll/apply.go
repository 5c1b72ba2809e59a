package enroll

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/acmeproxy/acmeproxy/pkg/audit"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/seal"
	"github.com/acmeproxy/acmeproxy/pkg/trail"
)

// Apply changes the clients to match a, in one transaction. Recipients are added to
// those that a client has. An *InvalidError holds all faults.
func (r *Registrar) Apply(ctx context.Context, a clients.Apply) (clients.Applied, error) {
	var faults []error
	for _, c := range a.Clients {
		have, err := r.largeRecipients(ctx, c)
		if err != nil {
			return clients.Applied{}, err
		}
		checks := append([]error{CheckName(c.Name), seal.CheckNew(c.Recipients, have)}, checkGrants(c.Grants)...)
		if err := errors.Join(checks...); err != nil {
			faults = append(faults, fmt.Errorf("client %q: %w", c.Name, err))
		}
	}
	if err := invalid(faults...); err != nil {
		return clients.Applied{}, err
	}
	done, err := r.cfg.Store.ApplyClients(ctx, a, appliedEntry)
	if len(done.Changes) > 0 && !a.DryRun {
		r.cfg.Changed(ctx)
	}
	if errors.Is(err, managed.ErrTooMany) {
		err = invalid(fmt.Errorf("%w; a client has at most %d, including those that its hosts enrolled", err, seal.MaxRecipients))
	}
	if err != nil || a.DryRun {
		return done, err
	}
	for _, change := range done.Changes {
		if change.Action == clients.Remove {
			err = errors.Join(err, r.forget(ctx, change.Before.ID))
		}
	}
	if err != nil {
		return done, fmt.Errorf("the clients are changed, but ACME accounts of removed ones stay: %w", err)
	}
	return done, nil
}

// largeRecipients returns the client's current recipients if c contains a large RSA
// key. Such a key is valid only if the client has it already.
func (r *Registrar) largeRecipients(ctx context.Context, c clients.Client) ([]string, error) {
	if !slices.ContainsFunc(c.Recipients, func(r string) bool { return seal.RSABits(r) > seal.MaxRSABits }) {
		return nil, nil
	}
	have, err := r.cfg.Store.ClientByName(ctx, c.Name)
	if errors.Is(err, managed.ErrNotFound) {
		return nil, nil
	}
	return have.Recipients, err
}

// appliedEntry returns the audit trail's entry about a change.
func appliedEntry(c clients.Change) trail.Entry {
	client := c.After
	if c.Action == clients.Remove {
		client = c.Before
	}
	return audit.Trim(trail.Entry{
		ClientID: client.ID, ClientName: c.Name, Addr: trail.Admin, Action: "client " + string(c.Action), Outcome: trail.Done,
		Detail: "clients apply: " + Summary(c),
	})
}
