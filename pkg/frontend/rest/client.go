package rest

import (
	"context"
	"encoding/base64"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/auth"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/enroll"
)

type clientOutput struct{ Body api.Client }

func wireClient(c clients.Client) api.Client {
	return api.Client{Name: c.Name, Recipients: c.Recipients, Grants: append([]clients.Grant{}, c.Grants...)}
}

func (f *frontend) client(ctx context.Context, _ *struct{}) (*clientOutput, error) {
	out := &clientOutput{wireClient(caller(ctx).Client)}
	var err error
	if out.Body.Hosts, err = f.Agent.Hosts(ctx, caller(ctx)); err != nil {
		return nil, f.problem(ctx, err)
	}
	return out, nil
}

// provenKey returns the pin of the key that the connection's handshake proved.
func provenKey(r *http.Request) (pin [32]byte, ok bool) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return pin, false
	}
	return auth.SPKIPin(r.TLS.PeerCertificates[0]), true
}

type enrollInput struct{ Body api.EnrollRequest }

func (f *frontend) enroll(ctx context.Context, in *enrollInput) (*clientOutput, error) {
	r := ctx.Value(requestKey{}).(*http.Request)
	key, ok := provenKey(r)
	if !ok {
		return nil, huma.NewError(http.StatusBadRequest, "enrolment needs a TLS client certificate, whose key is registered; acmeproxy remote enroll makes one")
	}
	secret, err := base64.RawURLEncoding.DecodeString(in.Body.Secret)
	if err != nil {
		return nil, fieldProblem(http.StatusUnprocessableEntity, "body.secret", "secret: not base64url without padding")
	}
	client, err := f.Registrar.Enroll(ctx, enroll.EnrollRequest{
		Secret: secret, Key: key, Recipients: in.Body.Recipients, Addr: auth.RemoteAddr(r),
	})
	if err != nil {
		return nil, f.problem(ctx, err)
	}
	return &clientOutput{wireClient(client)}, nil
}

type keyInput struct{ Body api.KeyRequest }

func (f *frontend) rekey(ctx context.Context, in *keyInput) (*clientOutput, error) {
	old, _ := provenKey(ctx.Value(requestKey{}).(*http.Request)) // a caller without a key is refused
	client, err := f.Registrar.Rekey(ctx, caller(ctx), enroll.RekeyRequest{
		Old: old, PublicKey: in.Body.PublicKey, Proof: in.Body.Proof, Recipients: in.Body.Recipients, Retire: in.Body.Retire,
	})
	if err != nil {
		return nil, f.problem(ctx, err)
	}
	return &clientOutput{wireClient(client)}, nil
}
