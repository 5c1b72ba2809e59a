package admin

import (
	"net/http"

	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/enroll"
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

// apply makes the clients match the request.
func (f *frontend) apply(r *http.Request, req ApplyRequest) (ApplyAnswer, error) {
	wanted := clients.Apply{Clients: make([]clients.Client, 0, len(req.Clients)), Prune: req.Prune, DryRun: req.DryRun}
	for _, c := range req.Clients {
		wanted.Clients = append(wanted.Clients, c.client())
	}
	done, err := f.Registrar.Apply(r.Context(), wanted)
	if err != nil {
		return ApplyAnswer{}, err
	}
	answer := ApplyAnswer{DryRun: req.DryRun, Changes: []ClientChange{}, Unchanged: done.Unchanged, Left: append([]string{}, done.Left...)}
	for _, c := range done.Changes {
		answer.Changes = append(answer.Changes, wireChange(c))
	}
	return answer, nil
}

func (c ClientSpec) client() clients.Client {
	return clients.Client{Name: c.Name, Disabled: c.Disabled, Recipients: c.Recipients, Grants: c.Grants}
}

func wireSpec(c clients.Client) *ClientSpec {
	w := wireClient(c)
	return &ClientSpec{Name: w.Name, Disabled: w.Disabled, Recipients: w.Recipients, Grants: w.Grants}
}

func wireChange(c clients.Change) ClientChange {
	out := ClientChange{Name: c.Name, Action: string(c.Action), Certificates: c.Certificates}
	if c.Action != clients.Add {
		out.Before = wireSpec(c.Before)
	}
	if c.Action != clients.Remove {
		out.After = wireSpec(c.After)
	}
	if c.Action == clients.Alter {
		out.Fields = enroll.ChangedFields(c)
	}
	return out
}

// String describes the change on one line, old → new.
func (c ClientChange) String() string {
	change := clients.Change{Name: c.Name, Action: clients.Action(c.Action), Certificates: c.Certificates}
	if c.Before != nil {
		change.Before = c.Before.client()
	}
	if c.After != nil {
		change.After = c.After.client()
	}
	return enroll.Summary(change)
}
