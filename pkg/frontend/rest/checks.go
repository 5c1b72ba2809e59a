package rest

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/acmeproxy/acmeproxy/pkg/api"
)

type checksInput struct{ Body api.CheckRequest }

// registerChecks registers the operation that checks names.
func (f *frontend) registerChecks(a huma.API) {
	huma.Register(a, huma.Operation{
		OperationID: "check", Method: http.MethodPost, Path: api.PathChecks, MaxBodyBytes: -1, BodyReadTimeout: -1,
		Summary:     "Check whether a CA could validate names",
		Description: "The proxy checks DNS, port 80 and CAA records as a CA would, without asking the CA. Each name must be granted to the caller. Costs no order, and takes up to a minute. One check at a time, 16 names, 64 at once and then one in ten seconds; until then, the answer is 429 with Retry-After.",
		Errors:      []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusUnprocessableEntity, http.StatusTooManyRequests, http.StatusServiceUnavailable},
		Responses: map[string]*huma.Response{
			"200": {Description: "the verdicts", Content: map[string]*huma.MediaType{"application/json": {Schema: a.OpenAPI().Components.Schemas.Schema(checkReportType, true, "CheckReport")}}},
		},
	}, f.check)
}

func (f *frontend) check(_ context.Context, in *checksInput) (*huma.StreamResponse, error) {
	return &huma.StreamResponse{Body: func(hc huma.Context) {
		r, w := humago.Unwrap(hc)
		extendDeadlines(w, api.MaxCheck)
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		defer context.AfterFunc(f.Stopping, cancel)()
		report, err := f.Check(ctx, caller(r.Context()), in.Body.Names)
		if err == nil {
			err = ctx.Err() // the verdicts of a cancelled check are wrong
		}
		if _, err := f.authenticateAgain(r); err != nil {
			f.unauthorized(w, r, err)
			return
		}
		if err != nil {
			f.writeProblem(w, f.problem(ctx, err))
			return
		}
		writeJSON(w, http.StatusOK, "application/json", report.Wire())
	}}, nil
}
