package rest

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/audit"
	"github.com/acmeproxy/acmeproxy/pkg/auth"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/challenge"
	"github.com/acmeproxy/acmeproxy/pkg/enroll"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/policy"
)

// problem converts errors to problem documents. Only problem chooses status codes.
// Unknown errors are internal. They go to the log, and the client gets no details.
func (f *frontend) problem(ctx context.Context, err error) error {
	var field *cert.FieldError
	var denied *policy.Denied
	var quota *audit.QuotaExceeded
	var soon *audit.TooSoon
	var failed *acme.Error
	var elsewhere *challenge.ElsewhereError
	if p := clientProblem(err); p != nil {
		return p
	}
	switch {
	case errors.As(err, &field):
		return fieldProblem(http.StatusUnprocessableEntity, fieldLocation(field.Field), field.Error())
	case errors.As(err, &denied):
		return fieldProblem(http.StatusForbidden, location(denied.Field), denied.Error())
	case errors.As(err, &quota):
		return f.tooMany(quota, quota.RetryAt)
	case errors.As(err, &soon):
		return f.tooMany(soon, soon.RetryAt)
	case errors.As(err, &failed):
		return f.caProblem(failed)
	case errors.Is(err, managed.ErrOwned):
		return fieldProblem(http.StatusConflict, "body.names", "names: one of them is managed for another client already; ask the proxy's administrator")
	case errors.Is(err, challenge.ErrTaken):
		return fieldProblem(http.StatusConflict, "path.token", challenge.ErrTaken.Error())
	case errors.As(err, &elsewhere):
		return huma.NewError(http.StatusConflict, elsewhere.Error())
	case errors.Is(err, managed.ErrShared):
		return &huma.ErrorModel{
			Type: api.ProblemShared, Title: http.StatusText(http.StatusConflict), Status: http.StatusConflict,
			Detail: "other hosts are enrolled for this client and use the certificate, too; nothing changed; set shared=true to end it for all of them",
		}
	case errors.Is(err, managed.ErrNotText):
		return huma.NewError(http.StatusUnprocessableEntity, "body: a text has a NUL or is not UTF-8; use UTF-8 without NUL")
	case errors.Is(err, managed.ErrNotFound):
		return huma.NewError(http.StatusNotFound, "the certificate is unknown, or not issued yet")
	case ctx.Err() != nil:
		return huma.NewError(http.StatusServiceUnavailable, "the request was cancelled")
	}
	f.Logger.Error("request failed", "error", err)
	return huma.NewError(http.StatusInternalServerError, internalDetail)
}

// clientProblem returns the problem for an error about the client itself, or nil.
func clientProblem(err error) error {
	var refused *auth.Error
	var key *enroll.KeyError
	switch {
	case errors.As(err, &refused):
		return huma.NewError(http.StatusUnauthorized, refused.Error())
	case errors.As(err, &key):
		return fieldProblem(http.StatusUnprocessableEntity, "body.proof", "public_key or proof: "+key.Error())
	case errors.Is(err, enroll.ErrToken):
		return huma.NewError(http.StatusUnauthorized, "token: unknown, expired or used; ask the proxy's administrator for a new one (acmeproxy clients token)")
	case errors.Is(err, enroll.ErrOtherClient):
		return huma.NewError(http.StatusConflict, "this TLS key is enrolled for another client already; use another --state-dir")
	case errors.Is(err, enroll.ErrKeyTaken):
		return huma.NewError(http.StatusConflict, "this TLS key is registered already; use another one")
	case errors.Is(err, enroll.ErrNotTLSKey):
		return huma.NewError(http.StatusForbidden, "only a TLS key can be replaced by its owner; for another bearer token ask the proxy's administrator (acmeproxy clients token NAME --bearer --replace)")
	case errors.Is(err, managed.ErrDisabled):
		return huma.NewError(http.StatusForbidden, "client: disabled; ask the proxy's administrator to enable it; the token remains valid until it expires")
	}
	return nil
}

const internalDetail = "internal error; the proxy's log has the cause"

func location(field string) string {
	switch field {
	case "names", "mode", "key_type", "proof":
		return "body." + field
	case "id":
		return "path.id"
	}
	return field
}

// fieldLocation returns the location of a field of a request.
func fieldLocation(field string) string {
	if field == "token" {
		return "path." + field
	}
	return "body." + field
}

func fieldProblem(status int, location, message string) error {
	return huma.NewError(status, message, &huma.ErrorDetail{Location: location, Message: message})
}

func (f *frontend) tooMany(cause error, retryAt time.Time) error {
	wait := int(retryAt.Sub(f.Now()).Seconds()) + 1
	err := huma.NewError(http.StatusTooManyRequests, cause.Error())
	return huma.ErrorWithHeaders(err, http.Header{"Retry-After": {strconv.Itoa(max(wait, 1))}})
}

// issuerProblem returns the problem of an issuance that failed after status 200.
func (f *frontend) issuerProblem(err error) *api.Problem {
	var e *acme.Error
	if !errors.As(err, &e) {
		f.Logger.Error("gateway answer failed", "error", err)
		return &api.Problem{Type: "about:blank", Title: "Internal Server Error", Status: http.StatusInternalServerError, Detail: internalDetail}
	}
	p := &api.Problem{Type: e.Type, Detail: e.ForClient()}
	switch e.Kind {
	case acme.Permanent:
		p.Status = http.StatusUnprocessableEntity
	case acme.RateLimited:
		p.Status = http.StatusTooManyRequests
	case acme.Temporary:
		p.Status = http.StatusServiceUnavailable
	}
	p.Title = http.StatusText(p.Status)
	if wait := e.RetryAt.Sub(f.Now()); !e.RetryAt.IsZero() && wait > 0 {
		p.RetryAfter = int(wait/time.Second) + 1
	}
	return p
}

// caProblem returns the problem of a request that failed at the CA before an answer
// began. Its status shows whether to retry. A conflict is one with the CA's state.
func (f *frontend) caProblem(e *acme.Error) error {
	p := f.issuerProblem(e)
	if e.Kind == acme.Permanent {
		p.Status, p.Title = http.StatusConflict, http.StatusText(http.StatusConflict)
	}
	err := error(&huma.ErrorModel{Type: p.Type, Title: p.Title, Status: p.Status, Detail: p.Detail})
	if p.RetryAfter > 0 {
		err = huma.ErrorWithHeaders(err, http.Header{"Retry-After": {strconv.Itoa(p.RetryAfter)}})
	}
	return err
}

// writeProblem writes an error that problem returned, without huma.
func (f *frontend) writeProblem(w http.ResponseWriter, err error) {
	var withHeaders interface{ GetHeaders() http.Header }
	if errors.As(err, &withHeaders) {
		for name, values := range withHeaders.GetHeaders() {
			w.Header()[name] = values
		}
	}
	var model *huma.ErrorModel
	if !errors.As(err, &model) {
		model = &huma.ErrorModel{Status: http.StatusInternalServerError, Title: "Internal Server Error"}
	}
	limitProblem(model)
	writeJSON(w, model.Status, api.TypeProblem, model)
}

func writeJSON(w http.ResponseWriter, status int, contentType string, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)+1))
	w.WriteHeader(status)
	w.Write(append(body, '\n'))
}

// problems converts the mux's plain text errors for unknown paths and methods to problem
// documents. It also converts redirects to a path without // and .., because the API
// accepts only one form of a path and a redirect would repeat the request.
func problems(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p := &problemWriter{ResponseWriter: w}
		next.ServeHTTP(p, r)
	})
}

type problemWriter struct {
	http.ResponseWriter
	replaced bool // the body is plain text and is dropped
}

// Unwrap lets http.ResponseController reach the connection.
func (p *problemWriter) Unwrap() http.ResponseWriter { return p.ResponseWriter }

func (p *problemWriter) WriteHeader(status int) {
	redirect := status >= 300 && status < 400 && p.Header().Get("Location") != ""
	contentType := p.Header().Get("Content-Type")
	plain := contentType == "" || strings.HasPrefix(contentType, "text/plain")
	if !redirect && (status < 400 || !plain) {
		p.ResponseWriter.WriteHeader(status)
		return
	}
	if redirect {
		status = http.StatusNotFound
		p.Header().Del("Location")
	}
	p.replaced = true
	p.Header().Del("Content-Length")
	writeJSON(p.ResponseWriter, status, api.TypeProblem, &api.Problem{
		Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: muxDetail(status),
	})
}

func (p *problemWriter) Write(b []byte) (int, error) {
	if p.replaced {
		return len(b), nil
	}
	return p.ResponseWriter.Write(b)
}

func muxDetail(status int) string {
	switch status {
	case http.StatusNotFound:
		return "this path is unknown; see /openapi.json"
	case http.StatusMethodNotAllowed:
		return "this path does not support the method; see the Allow header"
	}
	return http.StatusText(status)
}
