package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/acmeproxy/acmeproxy/pkg/audit"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/policy"
	"github.com/acmeproxy/acmeproxy/pkg/seal"
	"github.com/acmeproxy/acmeproxy/pkg/trail"
)

// MaxApply bounds a request to apply, in bytes.
const MaxApply = 32 << 20

// ClientSpec is what a client is to be.
type ClientSpec struct {
	Name       string          `json:"name"`
	Disabled   bool            `json:"disabled"`
	Recipients []string        `json:"recipients,omitempty"` // besides those that the client has
	Grants     []clients.Grant `json:"grants"`
}

// ApplyRequest says what all clients are to be.
type ApplyRequest struct {
	Clients []ClientSpec `json:"clients"`
	Prune   bool         `json:"prune,omitempty"` // remove all others
	DryRun  bool         `json:"dry_run,omitempty"`
}

// ApplyAnswer says what was done, or would be.
type ApplyAnswer struct {
	DryRun    bool           `json:"dry_run"`
	Changes   []ClientChange `json:"changes"` // by name
	Unchanged int            `json:"unchanged"`
	Left      []string       `json:"left"` // names of clients that were not asked for, and stay as they are
}

// ClientChange is what happens to one client.
type ClientChange struct {
	Name         string      `json:"name"`
	Action       string      `json:"action"`           // add, change, remove
	Fields       []string    `json:"fields,omitempty"` // that differ, of a change: disabled, grants, recipients
	Before       *ClientSpec `json:"before,omitempty"`
	After        *ClientSpec `json:"after,omitempty"`
	Certificates int64       `json:"certificates,omitempty"` // that are removed with it
}

// apply makes the clients match the request. Every fault is reported together.
func (f *frontend) apply(r *http.Request, req ApplyRequest) (ApplyAnswer, error) {
	wanted := make([]clients.Client, 0, len(req.Clients))
	var faults []error
	for _, spec := range req.Clients {
		have, err := f.recipientsOf(r.Context(), spec)
		if err != nil {
			return ApplyAnswer{}, err
		}
		if err := spec.check(have); err != nil {
			faults = append(faults, fmt.Errorf("client %q: %w", spec.Name, err))
		}
		wanted = append(wanted, spec.row())
	}
	if err := errors.Join(faults...); err != nil {
		return ApplyAnswer{}, &refusal{http.StatusUnprocessableEntity, err}
	}
	done, err := f.Store.ApplyClients(r.Context(), clients.Apply{Clients: wanted, Prune: req.Prune, DryRun: req.DryRun}, applied)
	if errors.Is(err, managed.ErrTooMany) {
		return ApplyAnswer{}, &refusal{http.StatusUnprocessableEntity, fmt.Errorf("%w; a client has at most %d, those that its hosts enrolled included", err, seal.MaxRecipients)}
	}
	if err != nil {
		return ApplyAnswer{}, err
	}
	answer := ApplyAnswer{DryRun: req.DryRun, Changes: []ClientChange{}, Unchanged: done.Unchanged, Left: append([]string{}, done.Left...)}
	for _, c := range done.Changes {
		answer.Changes = append(answer.Changes, wireChange(c))
	}
	return answer, nil
}

// recipientsOf returns the recipients that the client has already, if it matters: only
// they may have a larger RSA key.
func (f *frontend) recipientsOf(ctx context.Context, c ClientSpec) ([]string, error) {
	if !slices.ContainsFunc(c.Recipients, func(r string) bool { return seal.RSABits(r) > seal.MaxRSABits }) {
		return nil, nil
	}
	row, err := f.Store.ClientByName(ctx, c.Name)
	if errors.Is(err, managed.ErrNotFound) {
		return nil, nil
	}
	return row.Recipients, err
}

func (c ClientSpec) check(have []string) error {
	faults := []error{CheckName(c.Name), seal.CheckNew(c.Recipients, have)}
	if len(c.Grants) == 0 {
		faults = append(faults, errors.New("grants: none given; say what the client may ask for"))
	}
	for _, g := range c.Grants {
		faults = append(faults, policy.ValidateGrant(g))
	}
	return errors.Join(faults...)
}

func (c ClientSpec) row() clients.Client {
	return clients.Client{Name: c.Name, Disabled: c.Disabled, Recipients: c.Recipients, Grants: c.Grants}
}

func wireChange(c clients.Change) ClientChange {
	out := ClientChange{Name: c.Name, Action: string(c.Action), Certificates: c.Certificates}
	if c.Action != clients.Add {
		out.Before = spec(c.Before)
	}
	if c.Action != clients.Remove {
		out.After = spec(c.After)
	}
	if c.Action == clients.Alter {
		out.Fields = differing(*out.Before, *out.After)
	}
	return out
}

func spec(c clients.Client) *ClientSpec {
	w := wireClient(c)
	return &ClientSpec{Name: w.Name, Disabled: w.Disabled, Recipients: w.Recipients, Grants: w.Grants}
}

func differing(before, after ClientSpec) []string {
	var fields []string
	if before.Disabled != after.Disabled {
		fields = append(fields, "disabled")
	}
	if grantsText(before.Grants) != grantsText(after.Grants) {
		fields = append(fields, "grants")
	}
	if len(before.Recipients) != len(after.Recipients) {
		fields = append(fields, "recipients")
	}
	return fields
}

// applied is the audit trail's entry of a change.
func applied(c clients.Change) trail.Entry {
	client := c.After
	if c.Action == clients.Remove {
		client = c.Before
	}
	return audit.Trim(trail.Entry{
		ClientID: client.ID, ClientName: c.Name, Addr: "admin", Action: "client " + string(c.Action), Outcome: trail.Done,
		Detail: "clients apply: " + wireChange(c).String(),
	})
}

// String says in short what changes, old → new, on one line.
func (c ClientChange) String() string {
	switch {
	case c.Before == nil:
		text := grantsText(c.After.Grants)
		if c.After.Disabled {
			text += "; disabled"
		}
		if n := len(c.After.Recipients); n > 0 {
			text += "; " + counted(int64(n), "recipient")
		}
		return text
	case c.After == nil:
		return "with " + counted(c.Certificates, "certificate")
	}
	var parts []string
	for _, field := range c.Fields {
		switch field {
		case "disabled":
			parts = append(parts, fmt.Sprintf("disabled: %t → %t", c.Before.Disabled, c.After.Disabled))
		case "grants":
			parts = append(parts, "grants: "+grantsText(c.Before.Grants)+" → "+grantsText(c.After.Grants))
		case "recipients":
			parts = append(parts, "recipients: added "+strings.Join(added(c.Before.Recipients, c.After.Recipients), ", "))
		}
	}
	return strings.Join(parts, "; ")
}

// added returns the recipients of after that before does not have.
func added(before, after []string) []string {
	return slices.DeleteFunc(slices.Clone(after), func(r string) bool { return seal.FindRecipient(before, r) >= 0 })
}

func counted(n int64, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return strconv.FormatInt(n, 10) + " " + noun
}

func grantsText(grants []clients.Grant) string {
	if len(grants) == 0 {
		return "nothing"
	}
	texts := make([]string, 0, len(grants))
	for _, g := range grants {
		limits := []string{clients.JoinModes(g.Modes, ",")}
		if len(g.Networks) > 0 {
			limits = append(limits, "from "+strings.Join(g.Networks, ","))
		}
		if len(g.KeyTypes) > 0 {
			limits = append(limits, "key types "+strings.Join(g.KeyTypes, ","))
		}
		if g.DailyQuota > 0 {
			limits = append(limits, strconv.Itoa(g.DailyQuota)+" a day")
		}
		texts = append(texts, strings.Join(g.Names, ",")+" ("+strings.Join(limits, "; ")+")")
	}
	return strings.Join(texts, " and ")
}
