package rest

import (
	"context"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/challenge"
)

// registerChallenges registers the operations of clients with CA accounts of their own.
func (f *frontend) registerChallenges(a huma.API) {
	errs := []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusConflict, http.StatusUnprocessableEntity, http.StatusTooManyRequests}
	huma.Register(a, huma.Operation{
		OperationID: "present", Method: http.MethodPut, Path: api.PathHTTP01 + "/{token}", MaxBodyBytes: -1, BodyReadTimeout: -1,
		Summary:     "Answer an HTTP-01 challenge of the caller's own CA account",
		Description: "When this returns, port 80 of all instances answers the token, for this name only. The answer ends when it is withdrawn, after an hour, or when the caller may not have it any more; never because it was fetched. A repetition begins another hour. 409: the proxy or another client has the token, or the proxy does not serve port 80.",
		Errors:      errs,
	}, f.present)
	huma.Register(a, huma.Operation{
		OperationID: "withdraw", Method: http.MethodDelete, Path: api.PathHTTP01 + "/{token}", DefaultStatus: http.StatusNoContent,
		Summary:     "Withdraw the answer to an HTTP-01 challenge",
		Description: "If there is no such answer, nothing changes.",
		Errors:      errs,
	}, f.withdraw)
}

// isChallenge reports whether a request is one of registerChallenges.
func isChallenge(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, api.PathHTTP01+"/") }

type presentInput struct {
	Token string `path:"token" doc:"of the challenge, base64url"`
	Body  api.PresentRequest
}

type presentOutput struct{ Body api.Presented }

func (f *frontend) present(ctx context.Context, in *presentInput) (*presentOutput, error) {
	a, err := f.Present(ctx, caller(ctx), challenge.ClientAnswer{Name: in.Body.Name, Token: in.Token, KeyAuthorization: in.Body.KeyAuthorization})
	if err != nil {
		return nil, f.problem(ctx, err)
	}
	return &presentOutput{api.Presented{Name: a.Name, Until: a.Until.UTC()}}, nil
}

type withdrawInput struct {
	Token string `path:"token" doc:"of the challenge, base64url"`
	Name  string `query:"name" required:"true" maxLength:"512" doc:"of the challenge"`
}

func (f *frontend) withdraw(ctx context.Context, in *withdrawInput) (*struct{}, error) {
	if err := f.Withdraw(ctx, caller(ctx), in.Name, in.Token); err != nil {
		return nil, f.problem(ctx, err)
	}
	return nil, nil
}
