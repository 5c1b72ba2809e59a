package admin

import (
	"errors"
	"net/http"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
)

// What one call revokes before it answers: the caller waits 30 s at most, and
// one certificate may take most of that.
const (
	revokedAtOnce = 20
	revokeFor     = 3 * time.Second
)

// revoke locks a client out, so that nothing new is obtained for it, and then
// revokes a page of what the proxy keeps for it. A failure of one is told with
// it; when it is the CA's, the others are not tried.
func (f *frontend) revoke(r *http.Request, req RevokeClient) (RevokedList, error) {
	out := RevokedList{Revoked: []Revoked{}}
	reason, err := cert.ParseReason(req.Reason)
	if err != nil {
		return out, refuse(http.StatusUnprocessableEntity, "reason: %w", err)
	}
	if req.After == "" { // the first page
		if _, err := f.disable(true)(r, struct{}{}); err != nil {
			return out, err
		}
	}
	client, err := f.Store.ClientByName(r.Context(), r.PathValue("name"))
	if err != nil {
		return out, err
	}
	rows, err := f.Store.ListManaged(r.Context(), client.ID, clients.ModeAgent, req.After, revokedAtOnce)
	if err != nil {
		return out, err
	}
	for until := f.Now().Add(revokeFor); len(rows) > 0; rows = rows[1:] {
		if len(out.Revoked) > 0 && f.Now().After(until) {
			return out, nil
		}
		done := Revoked{Names: rows[0].Names, Serial: rows[0].Serial}
		err := f.Revoke(r.Context(), client, rows[0], reason)
		if err != nil {
			done.Error = err.Error()
		}
		out.Revoked = append(out.Revoked, done)
		var failed *acme.Error
		if errors.As(err, &failed) && failed.Kind != acme.Permanent {
			out.Next = ""
			return out, nil
		}
		out.Next = rows[0].ID
	}
	return out, nil
}
