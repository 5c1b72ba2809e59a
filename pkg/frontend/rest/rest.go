// Package rest is the proxy's native API: TLS 1.3, a client key or a bearer
// token, JSON, problem documents (RFC 9457), an OpenAPI document of itself.
//
// It decodes and encodes. Who is calling is auth's answer, what they may have
// is the mode's; nothing is decided here. It never repeats a rejected value,
// and internal errors go to the log only.
//
//	handler := rest.New(rest.Config{Auth: authenticator, Agent: agent, Begin: gateway.Begin, …})
package rest

import (
	"cmp"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"filippo.io/age"
	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/audit"
	"github.com/acmeproxy/acmeproxy/pkg/auth"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/connlimit"
	"github.com/acmeproxy/acmeproxy/pkg/enroll"
	"github.com/acmeproxy/acmeproxy/pkg/fair"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
)

// Agent is certificate-agent mode as this frontend sees it. Every call is for
// the caller's own certificates; errors: *cert.FieldError, *policy.Denied,
// *audit.QuotaExceeded, *audit.TooSoon, managed.ErrOwned, managed.ErrNotFound.
type Agent interface {
	Register(ctx context.Context, id clients.Identity, req cert.Request) (m managed.Certificate, created bool, err error)
	Get(ctx context.Context, id clients.Identity, certID string) (managed.Certificate, error)
	List(ctx context.Context, id clients.Identity, after string, limit int) ([]managed.Certificate, error)
	Bundle(ctx context.Context, id clients.Identity, certID, etag string, wait time.Duration) (managed.Bundle, error)
	RenewNow(ctx context.Context, id clients.Identity, certID string) (managed.Certificate, error)
	Delete(ctx context.Context, id clients.Identity, certID string) error
	// Revoke and RevokeAndDelete have *acme.Error, too. managed.ErrNotFound of
	// Revoke: it is not the current certificate of one of the caller's own.
	Revoke(ctx context.Context, id clients.Identity, rev cert.Revocation, forget bool) (managed.Certificate, error)
	RevokeAndDelete(ctx context.Context, id clients.Identity, certID string, reason cert.Reason) error
}

// Issuance is an allowed gateway request. Calling it obtains the certificate. again
// authenticates the caller again, before the answer. A bundle with a key is sealed
// to the recipients.
type Issuance = func(ctx context.Context, emit func(acme.Event), again func(context.Context) (clients.Identity, error)) (*cert.Bundle, []age.Recipient, error)

// Config is what the frontend needs.
type Config struct {
	Auth  *auth.Authenticator
	Audit *audit.Log
	Agent Agent
	// Registrar enrols hosts and replaces their keys.
	Registrar *enroll.Registrar
	// Begin is acme-gateway mode: it decides and returns what will do it.
	Begin func(ctx context.Context, id clients.Identity, req cert.Request) (Issuance, error)
	// Revoke revokes what is nobody's managed certificate.
	Revoke func(ctx context.Context, id clients.Identity, rev cert.Revocation) error
	Health func(ctx context.Context) error // nil error: fit to serve
	// Stopping ends when the proxy is asked to stop: long polls are answered
	// at once then, issuances may finish.
	Stopping context.Context //nolint:containedctx // the process's, not a request's
	Logger   *slog.Logger
	Now      func() time.Time
	// StrangerBody is the time in which the body of a request without a known
	// caller must be there, and StrangerAnswer the time that is left for the
	// answer then. If 0, they are 8 s and 2 s.
	StrangerBody, StrangerAnswer time.Duration
	// Lookups is the number of requests at once whose caller is looked up, and
	// Strangers that of requests without a known caller whose answer is computed.
	// An address may have no more of them than are left free. If 0, they are 512
	// and 256.
	Lookups, Strangers int
}

type frontend struct {
	Config
	polls, streams     *inFlight
	bodies             *inFlight    // requests with a body that has not come
	reading            *fair.Places // those whose body is being read
	lookups, strangers *connlimit.Places
	unhealthy          atomic.Bool // the last answer of /health was a failure
}

// New returns the API's handler.
func New(cfg Config) http.Handler {
	cfg.StrangerBody = cmp.Or(cfg.StrangerBody, 8*time.Second)
	cfg.StrangerAnswer = cmp.Or(cfg.StrangerAnswer, 2*time.Second)
	cfg.Lookups, cfg.Strangers = cmp.Or(cfg.Lookups, 512), cmp.Or(cfg.Strangers, 256)
	f := &frontend{
		Config:    cfg,
		polls:     newInFlight("long polls", pollLimits),
		streams:   newInFlight("gateway requests", streamLimits),
		bodies:    newInFlight("requests with a body", bodyLimits),
		reading:   fair.New(readLimits),
		lookups:   connlimit.NewPlaces(cfg.Lookups),
		strangers: connlimit.NewPlaces(cfg.Strangers),
	}
	mux := http.NewServeMux()
	native := humago.New(mux, humaConfig())
	f.register(native)
	mux.HandleFunc("GET "+api.PathHealth, f.serveHealth)
	mux.HandleFunc("GET "+api.PathOpenAPI, serveDocument(native.OpenAPI()))
	return f.logged(problems(f.textOnly(http.MaxBytesHandler(f.authenticated(mux), api.MaxRequest))))
}

// apiVersion is the version of the API, as in its paths. Anyone may read the
// document, and which build serves it is not for strangers.
const apiVersion = "1"

// humaConfig leaves out what phones home or echoes: the documentation page
// from a CDN, $schema links, rejected values.
func humaConfig() huma.Config {
	cfg := huma.DefaultConfig("acmeproxy", apiVersion)
	cfg.DocsPath = ""
	cfg.OpenAPIPath = "" // huma makes the document at the first request, with a race
	cfg.SchemasPath = ""
	cfg.CreateHooks = nil
	cfg.Formats = formats()
	cfg.Info.Description = "TLS certificates from a public CA for hosts the Internet cannot reach."
	cfg.Transformers = append(cfg.Transformers, limitFaults)
	cfg.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"clientKey": {Type: "mutualTLS", Description: "the TLS key that was enrolled"},
		"bearer":    {Type: "http", Scheme: "bearer", Description: "a token of acmeproxy clients add --bearer"},
	}
	cfg.Security = []map[string][]string{{"clientKey": {}}, {"bearer": {}}}
	return cfg
}

// serveDocument serves the OpenAPI document, made once.
func serveDocument(doc *huma.OpenAPI) http.HandlerFunc {
	body, err := json.Marshal(doc)
	return func(w http.ResponseWriter, _ *http.Request) {
		if err != nil {
			panic(err) // a fault of the program, which a test would have met
		}
		w.Header().Set("Content-Type", api.TypeOpenAPI)
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		w.Write(body)
	}
}

func (f *frontend) register(a huma.API) {
	f.registerClient(a)
	f.registerCertificates(a)
	f.registerRevocation(a)
	a.OpenAPI().AddOperation(&huma.Operation{
		OperationID: "health", Method: http.MethodGet, Path: api.PathHealth,
		Summary: "Whether the proxy is fit to serve", Security: []map[string][]string{},
		Responses: map[string]*huma.Response{
			"200": {Description: "it is", Content: map[string]*huma.MediaType{api.TypeHealth: {Schema: a.OpenAPI().Components.Schemas.Schema(healthType, true, "Health")}}},
			"503": {Description: "it is not"},
		},
	})
}

// registerClient is about the caller itself.
func (f *frontend) registerClient(a huma.API) {
	huma.Register(a, huma.Operation{
		OperationID: "enroll", Method: http.MethodPost, Path: api.PathEnroll, DefaultStatus: http.StatusCreated,
		Summary:  "Register the TLS key of this connection with a one-time token",
		Security: []map[string][]string{}, MaxBodyBytes: -1, BodyReadTimeout: -1, // the body is here already
	}, f.enroll)
	huma.Register(a, huma.Operation{
		OperationID: "client", Method: http.MethodGet, Path: api.PathClient,
		Summary: "Who the caller is and what it may ask for",
	}, f.client)
	huma.Register(a, huma.Operation{
		OperationID: "key", Method: http.MethodPost, Path: api.PathClientKey, MaxBodyBytes: -1, BodyReadTimeout: -1,
		Summary:     "Put a new TLS key in the place of the one of this connection",
		Description: "From this answer on the old key is refused. Recipients can be swapped in the same step.",
		Security:    []map[string][]string{{"clientKey": {}}},
		Errors:      []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusConflict, http.StatusUnprocessableEntity, http.StatusTooManyRequests},
	}, f.rekey)
}

// registerCertificates is about having certificates.
func (f *frontend) registerCertificates(a huma.API) {
	huma.Register(a, huma.Operation{
		OperationID: "request", Method: http.MethodPost, Path: api.PathCertificates, MaxBodyBytes: -1, BodyReadTimeout: -1,
		Summary:     "Ask for a certificate",
		Errors:      []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusConflict, http.StatusUnprocessableEntity, http.StatusTooManyRequests, http.StatusServiceUnavailable},
		Description: "agent: 202 and a Location, the certificate is obtained and kept fresh. gateway: 200 and a stream of events (" + api.TypeEvents + "), the last of which holds the chain or a problem.",
		Responses: map[string]*huma.Response{
			"200": {Description: "gateway: events", Content: map[string]*huma.MediaType{api.TypeEvents: {Schema: a.OpenAPI().Components.Schemas.Schema(eventType, true, "Event")}}},
			"202": {Description: "agent: registered", Content: map[string]*huma.MediaType{"application/json": {Schema: a.OpenAPI().Components.Schemas.Schema(certificateType, true, "Certificate")}}},
		},
	}, f.request)
	huma.Register(a, huma.Operation{
		OperationID: "list", Method: http.MethodGet, Path: api.PathCertificates,
		Summary: "The caller's managed certificates",
	}, f.list)
	huma.Register(a, huma.Operation{
		OperationID: "get", Method: http.MethodGet, Path: api.PathCertificates + "/{id}",
		Summary: "One managed certificate",
	}, f.get)
	huma.Register(a, huma.Operation{
		OperationID: "bundle", Method: http.MethodGet, Path: api.PathCertificates + "/{id}/bundle",
		Summary:     "The newest bundle, age ciphertext",
		Description: "With If-None-Match the answer is 304 while there is nothing newer; with wait it is held back until there is, or until an attempt failed: the certificate says why.",
		Errors:      []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusUnprocessableEntity, http.StatusTooManyRequests, http.StatusServiceUnavailable},
		Responses: map[string]*huma.Response{
			"200": {Description: "age ciphertext", Content: map[string]*huma.MediaType{api.TypeBundle: {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}}},
			"304": {Description: "nothing newer"},
		},
	}, f.bundle)
	huma.Register(a, huma.Operation{
		OperationID: "renew", Method: http.MethodPost, Path: api.PathCertificates + "/{id}/renew", DefaultStatus: http.StatusAccepted,
		Summary:     "Renew now, whatever the certificate's age",
		Description: "At most once an hour, and a quarter of an hour after an attempt that failed: until then 429 and Retry-After. While work on it is due already, nothing changes.",
		Errors:      []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusUnprocessableEntity, http.StatusTooManyRequests},
	}, f.renew)
}

// registerRevocation is about being rid of them.
func (f *frontend) registerRevocation(a huma.API) {
	huma.Register(a, huma.Operation{
		OperationID: "delete", Method: http.MethodDelete, Path: api.PathCertificates + "/{id}", DefaultStatus: http.StatusNoContent,
		Summary:     "Stop managing a certificate and forget its bundle",
		Description: "With revoke=true its current certificate is revoked first, for that reason; if that fails nothing is deleted. One that is expired or revoked already counts as done.",
		Errors:      []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusConflict, http.StatusUnprocessableEntity, http.StatusTooManyRequests, http.StatusServiceUnavailable},
	}, f.delete)
	huma.Register(a, huma.Operation{
		OperationID: "revoke", Method: http.MethodPost, Path: api.PathRevoke, MaxBodyBytes: -1, BodyReadTimeout: -1,
		Summary:     "Revoke a certificate that the caller holds",
		Description: "If it is the current one of a certificate that the proxy keeps for the caller, another is obtained in its place, an hour after it was obtained at the earliest. Any other needs a proof that the caller has its key, and its names must be granted. One that is expired or revoked already counts as done.",
		Errors:      []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusConflict, http.StatusUnprocessableEntity, http.StatusTooManyRequests, http.StatusServiceUnavailable},
	}, f.revoke)
}
