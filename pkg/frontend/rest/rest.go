// Package rest serves the proxy's native API. It uses TLS 1.3, a client key or a bearer
// token, JSON and problem documents (RFC 9457), and serves its OpenAPI document.
//
// It only decodes and encodes. Package auth authenticates the caller, and the modes
// decide. It must never repeat a rejected value in an answer, or return an internal
// error, which goes to the log only.
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
	"github.com/acmeproxy/acmeproxy/pkg/challenge"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/connlimit"
	"github.com/acmeproxy/acmeproxy/pkg/enroll"
	"github.com/acmeproxy/acmeproxy/pkg/fair"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/preflight"
)

// Agent implements certificate-agent mode. Every call is for the caller's own
// certificates. Errors are *cert.FieldError, *policy.Denied, *audit.QuotaExceeded,
// *audit.TooSoon, managed.ErrOwned, managed.ErrShared and managed.ErrNotFound.
type Agent interface {
	Register(ctx context.Context, id clients.Identity, req cert.Request) (m managed.Certificate, created bool, err error)
	Get(ctx context.Context, id clients.Identity, certID string) (managed.Certificate, error)
	List(ctx context.Context, id clients.Identity, after string, limit int) ([]managed.Certificate, error)
	Bundle(ctx context.Context, id clients.Identity, certID, etag string, wait time.Duration) (managed.Bundle, error)
	RenewNow(ctx context.Context, id clients.Identity, certID string) (managed.Certificate, error)
	Delete(ctx context.Context, id clients.Identity, certID string, shared bool) error
	// Hosts returns the number of enrolled hosts, which share the certificates.
	Hosts(ctx context.Context, id clients.Identity) (int, error)
	// Revoke and RevokeAndDelete also return *acme.Error. Revoke returns
	// managed.ErrNotFound for a certificate that is not a current one of the caller.
	Revoke(ctx context.Context, id clients.Identity, rev cert.Revocation, forget bool) (managed.Certificate, error)
	RevokeAndDelete(ctx context.Context, id clients.Identity, certID string, reason cert.Reason, shared bool) error
}

// Issuance is an allowed gateway request. Calling it obtains the certificate. again
// authenticates the caller again, before the answer. A bundle with a key is sealed
// to the recipients.
type Issuance = func(ctx context.Context, emit func(acme.Event), again func(context.Context) (clients.Identity, error)) (*cert.Bundle, []age.Recipient, error)

// Config holds the dependencies and limits of the frontend.
type Config struct {
	Auth  *auth.Authenticator
	Audit *audit.Log
	Agent Agent
	// Registrar enrols hosts and replaces their keys.
	Registrar *enroll.Registrar
	// Begin decides about a request in acme-gateway mode and returns its Issuance.
	Begin func(ctx context.Context, id clients.Identity, req cert.Request) (Issuance, error)
	// Revoke revokes a certificate that the proxy does not manage.
	Revoke func(ctx context.Context, id clients.Identity, rev cert.Revocation) error
	// Check checks whether a CA could validate names. Errors are *cert.FieldError,
	// *policy.Denied and *audit.TooSoon.
	Check func(ctx context.Context, id clients.Identity, names []string) (preflight.Report, error)
	// Present answers a challenge of the client's own CA account. The answer has the name
	// in any spelling, the token and the key authorization; the returned one is complete.
	// Withdraw ends it. Errors are *cert.FieldError, *policy.Denied, *audit.TooSoon,
	// challenge.ErrTaken and *challenge.ElsewhereError.
	Present  func(ctx context.Context, id clients.Identity, a challenge.ClientAnswer) (challenge.ClientAnswer, error)
	Withdraw func(ctx context.Context, id clients.Identity, name, token string) error
	Health   func(ctx context.Context) error // returns nil if the proxy can serve
	// Stopping ends when the proxy is asked to stop. Then long polls are answered at
	// once, and issuances may finish.
	Stopping context.Context //nolint:containedctx // the process's, not a request's
	Logger   *slog.Logger
	Now      func() time.Time
	// StrangerBody is the time limit for the body of an unknown caller's request, and
	// StrangerAnswer the further time for the answer. If 0, they are 8 s and 2 s.
	StrangerBody, StrangerAnswer time.Duration
	// Lookups is the maximum number of concurrent lookups of callers. Strangers is
	// that of concurrent answers to unknown callers. An address may have at most as
	// many of them as are free. If 0, they are 512 and 256.
	Lookups, Strangers int
}

type frontend struct {
	Config
	polls, streams     *inFlight
	bodies             *inFlight    // requests whose body has not arrived
	reading            *fair.Places // those whose body is being read
	lookups, strangers *connlimit.Places
	unhealthy          atomic.Bool // whether the last answer of /health was a failure
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

// apiVersion is the version of the API, as in its paths. The OpenAPI document is public,
// so it does not contain the version of the build.
const apiVersion = "1"

// humaConfig returns huma's configuration without the documentation page from a CDN,
// $schema links and echoes of rejected values.
func humaConfig() huma.Config {
	cfg := huma.DefaultConfig("acmeproxy", apiVersion)
	cfg.DocsPath = ""
	cfg.OpenAPIPath = "" // huma creates the document at the first request, with a race
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

// serveDocument returns a handler of the OpenAPI document, which it encodes once.
func serveDocument(doc *huma.OpenAPI) http.HandlerFunc {
	body, err := json.Marshal(doc)
	return func(w http.ResponseWriter, _ *http.Request) {
		if err != nil {
			panic(err) // a bug that a test would detect
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
	f.registerChecks(a)
	f.registerChallenges(a)
	a.OpenAPI().AddOperation(&huma.Operation{
		OperationID: "health", Method: http.MethodGet, Path: api.PathHealth,
		Summary: "Whether the proxy can serve", Security: []map[string][]string{},
		Responses: map[string]*huma.Response{
			"200": {Description: "it can", Content: map[string]*huma.MediaType{api.TypeHealth: {Schema: a.OpenAPI().Components.Schemas.Schema(healthType, true, "Health")}}},
			"503": {Description: "it cannot"},
		},
	})
}

// registerClient registers the operations on the caller itself.
func (f *frontend) registerClient(a huma.API) {
	huma.Register(a, huma.Operation{
		OperationID: "enroll", Method: http.MethodPost, Path: api.PathEnroll, DefaultStatus: http.StatusCreated,
		Summary:  "Register the TLS key of this connection with a one-time token",
		Security: []map[string][]string{}, MaxBodyBytes: -1, BodyReadTimeout: -1, // the body has been read already
	}, f.enroll)
	huma.Register(a, huma.Operation{
		OperationID: "client", Method: http.MethodGet, Path: api.PathClient,
		Summary: "The caller's name, recipients and grants",
	}, f.client)
	huma.Register(a, huma.Operation{
		OperationID: "key", Method: http.MethodPost, Path: api.PathClientKey, MaxBodyBytes: -1, BodyReadTimeout: -1,
		Summary:     "Replace the TLS key of this connection with a new one",
		Description: "After this answer, the old key is refused. The same request can replace recipients.",
		Security:    []map[string][]string{{"clientKey": {}}},
		Errors:      []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusConflict, http.StatusUnprocessableEntity, http.StatusTooManyRequests},
	}, f.rekey)
}

// registerCertificates registers the operations that request and read certificates.
func (f *frontend) registerCertificates(a huma.API) {
	huma.Register(a, huma.Operation{
		OperationID: "request", Method: http.MethodPost, Path: api.PathCertificates, MaxBodyBytes: -1, BodyReadTimeout: -1,
		Summary:     "Request a certificate",
		Errors:      []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusConflict, http.StatusUnprocessableEntity, http.StatusTooManyRequests, http.StatusServiceUnavailable},
		Description: "agent: 202 and a Location; the certificate is obtained and renewed. gateway: 200 and a stream of events (" + api.TypeEvents + "), the last of which holds the chain or a problem.",
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
		Description: "With If-None-Match, the answer is 304 if no newer bundle exists. With wait, it is delayed until a newer bundle exists or an attempt has failed; the certificate contains the cause.",
		Errors:      []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusUnprocessableEntity, http.StatusTooManyRequests, http.StatusServiceUnavailable},
		Responses: map[string]*huma.Response{
			"200": {Description: "age ciphertext", Content: map[string]*huma.MediaType{api.TypeBundle: {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}}},
			"304": {Description: "nothing newer"},
		},
	}, f.bundle)
	huma.Register(a, huma.Operation{
		OperationID: "renew", Method: http.MethodPost, Path: api.PathCertificates + "/{id}/renew", DefaultStatus: http.StatusAccepted,
		Summary:     "Renew now, at any age of the certificate",
		Description: "At most once an hour, or four times an hour and 24 times a day while attempts fail; until then, the answer is 429 with Retry-After. If an attempt is due already, nothing changes.",
		Errors:      []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusUnprocessableEntity, http.StatusTooManyRequests},
	}, f.renew)
}

// registerRevocation registers the operations that delete and revoke certificates.
func (f *frontend) registerRevocation(a huma.API) {
	huma.Register(a, huma.Operation{
		OperationID: "delete", Method: http.MethodDelete, Path: api.PathCertificates + "/{id}", DefaultStatus: http.StatusNoContent,
		Summary:     "Stop managing a certificate and delete its bundle",
		Description: "With revoke=true, its current certificate is revoked first, for that reason. If that fails, nothing is deleted. An expired or revoked certificate counts as revoked. If several hosts are enrolled for the client, nothing changes without shared=true, and the answer is 409 with the type " + api.ProblemShared + ".",
		Errors:      []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusConflict, http.StatusUnprocessableEntity, http.StatusTooManyRequests, http.StatusServiceUnavailable},
	}, f.delete)
	huma.Register(a, huma.Operation{
		OperationID: "revoke", Method: http.MethodPost, Path: api.PathRevoke, MaxBodyBytes: -1, BodyReadTimeout: -1,
		Summary:     "Revoke a certificate that the caller holds",
		Description: "If it is the current certificate of one that the proxy manages for the caller, it is replaced, at the earliest an hour after it was obtained. Any other needs a proof that the caller has its key, and a grant for its names. An expired or revoked certificate counts as revoked.",
		Errors:      []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusConflict, http.StatusUnprocessableEntity, http.StatusTooManyRequests, http.StatusServiceUnavailable},
	}, f.revoke)
}
