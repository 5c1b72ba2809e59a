package admin

import (
	"net/http"

	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/enroll"
)

// MaxApply is the maximum size of a request to apply, in bytes.
const MaxApply = 32 << 20

// ClientSpec describes the wanted state of a client.
type ClientSpec struct {
	Name       string          `json:"name"`
	Disabled   bool            `json:"disabled"`
	Recipients []string        `json:"recipients,omitempty"` // in addition to those that the client has
	Grants     []clients.Grant `json:"grants"`
}

// ApplyRequest describes the wanted state of all clients.
type ApplyRequest struct {
	Clients []ClientSpec `json:"clients"`
	Prune   bool         `json:"prune,omitempty"` // remove all other clients
	DryRun  bool         `json:"dry_run,omitempty"`
}

// ApplyAnswer reports the changes that were made, or would be with DryRun.
type ApplyAnswer struct {
	DryRun    bool           `json:"dry_run"`
	Changes   []ClientChange `json:"changes"` // by name
	Unchanged int            `json:"unchanged"`
	Left      []string       `json:"left"` // names of clients that were not in the request and are unchanged
}

// ClientChange describes the change of one client.
type ClientChange struct {
	Name         string      `json:"name"`
	Action       string      `json:"action"`           // add, change, remove
	Fields       []string    `json:"fields,omitempty"` // altered fields of a change: disabled, grants, recipients
	Before       *ClientSpec `json:"before,omitempty"`
	After        *ClientSpec `json:"after,omitempty"`
	Certificates int64       `json:"certificates,omitempty"` // number of certificates that are removed with it
}

// apply changes the clients to match the request.
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

// String returns the change on one line, old → new.
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
