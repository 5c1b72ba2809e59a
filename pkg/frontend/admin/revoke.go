package admin

import (
	"net/http"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
)

// revoke disables a client and revokes a page of its certificates.
func (f *frontend) revoke(r *http.Request, req RevokeClient) (RevokedList, error) {
	reason, err := cert.ParseReason(req.Reason)
	if err != nil {
		return RevokedList{}, refuse(http.StatusUnprocessableEntity, "reason: %w", err)
	}
	page, next, err := f.Registrar.RevokeAll(r.Context(), r.PathValue("name"), reason, req.After)
	out := RevokedList{Revoked: []Revoked{}, Next: next}
	for _, c := range page {
		done := Revoked{Names: c.Names, Serial: c.Serial}
		if c.Err != nil {
			done.Error = c.Err.Error()
		}
		out.Revoked = append(out.Revoked, done)
	}
	return out, err
}
