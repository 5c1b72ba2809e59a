package rest

import (
	"context"
	"errors"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/auth"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/seal"
	"github.com/acmeproxy/acmeproxy/pkg/trail"
)

type keyInput struct{ Body api.KeyRequest }

const actionKey = "client key"

// rollKey puts a new key in the place of the one that this connection's
// handshake proved. The new one proves itself by its signature.
func (f *frontend) rollKey(ctx context.Context, in *keyInput) (*clientOutput, error) {
	id := caller(ctx)
	if id.Via != clients.TLSKey {
		return nil, huma.NewError(http.StatusForbidden, "only a TLS key can be replaced by its owner; for another bearer token ask the proxy's administrator (acmeproxy clients token NAME --bearer --replace)")
	}
	if err := f.Audit.AuthorizeFrom(ctx, id, actionKey); err != nil {
		return nil, f.problem(ctx, err)
	}
	old := auth.SPKIPin(ctx.Value(requestKey{}).(*http.Request).TLS.PeerCertificates[0])
	pin, err := auth.CheckKeyProof(in.Body.PublicKey, in.Body.Proof, old)
	if err != nil {
		f.recordKey(ctx, id, trail.Refused, "the proof of the new key is wrong")
		return nil, fieldProblem(http.StatusUnprocessableEntity, "body.proof", "public_key or proof: "+err.Error())
	}
	if err := seal.CheckNew(in.Body.Recipients, id.Client.Recipients); err != nil {
		return nil, fieldProblem(http.StatusUnprocessableEntity, "body.recipients", "recipients: "+err.Error())
	}
	if err := f.Audit.Pace(id); err != nil {
		return nil, f.problem(ctx, err)
	}
	client, err := f.Store.RollKey(ctx, clients.Rollover{
		CredentialID: id.CredentialID, Old: old[:], New: pin[:], Add: in.Body.Recipients, Retire: in.Body.Retire,
	})
	switch {
	case errors.Is(err, managed.ErrNotFound): // between authentication and here
		return nil, huma.NewError(http.StatusUnauthorized, (&auth.Error{}).Error())
	case errors.Is(err, managed.ErrConflict):
		f.recordKey(ctx, id, trail.Refused, "the new TLS key is registered already")
		return nil, huma.NewError(http.StatusConflict, "this TLS key is registered already; make another one")
	case errors.Is(err, managed.ErrTooMany):
		return nil, fieldProblem(http.StatusUnprocessableEntity, "body.recipients", "recipients: too many, with those that the client has already")
	case errors.Is(err, managed.ErrRecipients):
		return nil, fieldProblem(http.StatusUnprocessableEntity, "body.retire", "retire: names what is not among the client's recipients, or all of them")
	case err != nil:
		return nil, f.problem(ctx, err)
	}
	f.recordKey(ctx, id, trail.Done, "")
	return &clientOutput{wireClient(client)}, nil
}

func (f *frontend) recordKey(ctx context.Context, id clients.Identity, outcome, detail string) {
	f.Audit.Record(ctx, trail.Entry{
		ClientID: id.Client.ID, ClientName: id.Client.Name, Addr: id.Addr.String(), Action: actionKey, Outcome: outcome, Detail: detail,
	})
}
