// Package admin serves the proxy's administration on a unix socket that only its
// owner can open. It covers clients, their grants and tokens, the audit trail, the
// status and probes of port 80. The acmeproxy command is its client.
//
// It must never be served on the network. The API has no operation that administers
// the proxy.
//
//	listener, err := admin.Listen(filepath.Join(dataDir, admin.SocketName))
//	http.Serve(listener, admin.New(admin.Config{Store: s, …}))
package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/audit"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/enroll"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/trail"
)

// SocketName is the socket's name in the data directory.
const SocketName = "admin.sock"

// Store reads clients, their credentials and certificates, and the audit trail.
// Its methods may be used concurrently. Errors are those of package managed.
type Store interface {
	ClientByName(ctx context.Context, name string) (clients.Client, error)
	ClientByID(ctx context.Context, id string) (clients.Client, error)
	Clients(ctx context.Context, afterName string, limit int) ([]clients.Client, error)
	Credentials(ctx context.Context, clientID string) ([]clients.Credential, error)
	ListManaged(ctx context.Context, clientID string, mode clients.Mode, afterID string, limit int) ([]managed.Certificate, error)
	FindManaged(ctx context.Context, q managed.Query) ([]managed.Certificate, error)
	ManagedByID(ctx context.Context, id string) (managed.Certificate, error)
	DeleteManaged(ctx context.Context, id string) error
	Audit(ctx context.Context, q trail.Query) ([]trail.Entry, error)
}

// Config holds the dependencies of the frontend.
type Config struct {
	Store Store
	Audit *audit.Log
	// Registrar changes clients and their credentials.
	Registrar *enroll.Registrar
	Status    func(ctx context.Context) (Status, error)
	// SelfSigned returns the certificate of the API in PEM while it is self-signed, and an
	// empty text otherwise. It may be nil.
	SelfSigned func() string
	// RefusesACME returns why the ACME door refuses names, whatever the grants say. It may be
	// nil.
	RefusesACME func(names cert.Names) (reasons []string)
	// CA returns the directory of the CA, from memory if possible.
	CA func(ctx context.Context) (CA, error)
	// Own describes a certificate of the proxy's own host: the fields of Certificate that
	// need more than its row.
	Own func(ctx context.Context, m managed.Certificate) (Certificate, error)
	// Renew makes a certificate due. Errors are those of store.TryNow.
	Renew func(ctx context.Context, id string) (managed.Certificate, error)
	// Revoke revokes the certificate of a row, and replaces it or, with forget, deletes
	// the row. Errors are *acme.Error, managed.ErrNoCertificate, managed.ErrStale.
	Revoke func(ctx context.Context, client clients.Client, m managed.Certificate, reason cert.Reason, forget bool) (managed.Certificate, error)
	// ReplaceableAt returns before which time a certificate that is revoked now would not
	// be replaced, or the zero time.
	ReplaceableAt func(ctx context.Context, id string) (time.Time, error)
	// Deploy makes the deployment of a certificate of the proxy's own host due, also
	// after it has succeeded. The error is managed.ErrNoCertificate.
	Deploy func(ctx context.Context, m managed.Certificate) error
	// Forgotten wakes the waiters for a certificate that was deleted.
	Forgotten func(certID string)
	// Publish makes port 80 answer a token of a name until remove is called.
	Publish func(ctx context.Context, name, token, body string) (remove func())
	// Reload reads the settings again and returns the keys of those that have changed.
	Reload func(ctx context.Context) (changed []string, err error)
	// File returns the path of the configuration file in force; it may be empty.
	File   func() string
	Logger *slog.Logger
	Now    func() time.Time
}

type frontend struct {
	Config
	probes probes
}

// New returns the socket's handler.
func New(cfg Config) http.Handler {
	f := &frontend{Config: cfg, probes: probes{live: map[string]func(){}}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", serve(f, func(r *http.Request, _ struct{}) (Status, error) { return f.Status(r.Context()) }))
	mux.HandleFunc("GET /clients", serve(f, f.list, "after"))
	mux.HandleFunc("POST /clients", serve(f, f.add))
	mux.HandleFunc("GET /clients/{name}", serve(f, f.show))
	mux.HandleFunc("POST /clients/{name}/token", serve(f, f.token))
	mux.HandleFunc("POST /clients/{name}/acme", serve(f, f.newACME))
	mux.HandleFunc("DELETE /clients/{name}/acme", serve(f, f.revokeACME))
	mux.HandleFunc("DELETE /clients/{name}/acme/{id}", serve(f, f.revokeACME))
	mux.HandleFunc("POST /clients/{name}/explain", serve(f, f.explain))
	mux.HandleFunc("POST /clients/{name}/disable", serve(f, f.disable(true)))
	mux.HandleFunc("POST /clients/{name}/enable", serve(f, f.disable(false)))
	mux.HandleFunc("DELETE /clients/{name}", serve(f, f.remove))
	mux.HandleFunc("POST /clients/{name}/revoke", serve(f, f.revoke))
	mux.HandleFunc("GET /certificates", serve(f, f.certificates, "client", "name", "failing", "expires_before", "after", "limit"))
	mux.HandleFunc("GET /certificates/{id}", serve(f, f.certificate))
	mux.HandleFunc("DELETE /certificates/{id}", serve(f, f.forgetCertificate))
	mux.HandleFunc("POST /certificates/{id}/renew", serve(f, f.renewCertificate))
	mux.HandleFunc("POST /certificates/{id}/revoke", serve(f, f.revokeCertificate))
	mux.HandleFunc("POST /certificates/{id}/hook", serve(f, f.deployCertificate))
	mux.HandleFunc("GET /audit", serve(f, f.audit, "client", "outcome", "name", "since", "before", "limit"))
	mux.HandleFunc("GET /ca", serve(f, f.ca))
	mux.HandleFunc("POST /probes", serve(f, f.addProbe))
	mux.HandleFunc("DELETE /probes/{token}", serve(f, f.removeProbe))
	mux.HandleFunc("POST /reload", serve(f, f.reload))
	bounded := http.NewServeMux()
	bounded.Handle("/", http.MaxBytesHandler(mux, api.MaxRequest))
	bounded.Handle("PUT /clients", http.MaxBytesHandler(serve(f, f.apply), MaxApply))
	return f.textOnly(bounded)
}

// textOnly refuses a request whose path or query is not valid text.
func (f *frontend) textOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if status, _, detail := api.CheckText(r); status != 0 {
			f.answer(w, nil, refuse(status, "%s", detail))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// refusal is an error whose text is for the administrator.
type refusal struct {
	status int
	err    error
}

func (r *refusal) Error() string { return r.err.Error() }

func refuse(status int, format string, args ...any) error {
	return &refusal{status, fmt.Errorf(format, args...)}
}

// serve returns the handler of an operation that knows some query parameters. It decodes
// and encodes JSON.
func serve[Req, Resp any](f *frontend, do func(*http.Request, Req) (Resp, error), params ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(strictHeader, "true")
		if err := checkQuery(r, params); err != nil {
			f.answer(w, nil, err)
			return
		}
		var req Req
		dec := json.NewDecoder(r.Body)
		dec.DisallowUnknownFields()
		err := dec.Decode(&req)
		if large := (*http.MaxBytesError)(nil); errors.As(err, &large) {
			f.answer(w, nil, refuse(http.StatusRequestEntityTooLarge, "the request is larger than %d bytes; send less at a time", large.Limit))
			return
		}
		if err != nil && !errors.Is(err, io.EOF) {
			f.answer(w, nil, refuse(http.StatusBadRequest, "the request is not the expected JSON; use programs of the same version"))
			return
		}
		resp, err := do(r, req)
		if name := r.PathValue("name"); name != "" && errors.Is(err, managed.ErrNotFound) {
			err = refuse(http.StatusNotFound, "client %q is unknown; run acmeproxy clients list to see all", name)
		}
		f.answer(w, resp, err)
	}
}

func (f *frontend) answer(w http.ResponseWriter, resp any, err error) {
	status, contentType := http.StatusOK, "application/json"
	if err != nil {
		p := f.problem(err)
		status, contentType, resp = p.Status, api.TypeProblem, p
	}
	body, err := json.Marshal(resp)
	if err != nil {
		f.Logger.Error("admin answer failed", "error", err)
		status, body = http.StatusInternalServerError, []byte(`{}`)
	}
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	w.Write(append(body, '\n'))
}

// problem converts errors to problem documents. Only problem chooses status codes.
func (f *frontend) problem(err error) *api.Problem {
	var r *refusal
	var invalid *enroll.InvalidError
	var exists *enroll.ExistsError
	var failed *acme.Error
	p := &api.Problem{Type: "about:blank", Status: http.StatusInternalServerError, Detail: err.Error()}
	switch {
	case errors.As(err, &r):
		p.Status = r.status
	case errors.As(err, &invalid):
		p.Status, p.Detail = http.StatusUnprocessableEntity, faultsText(invalid)
	case errors.As(err, &exists):
		p.Status = http.StatusConflict
		p.Detail = fmt.Sprintf("client %q exists already; use another name, or change it with clients apply, or issue a token with clients token", exists.Name)
	case errors.As(err, &failed):
		p.Status, p.Type, p.Detail = http.StatusConflict, failed.Type, failed.Error()
		if failed.Kind != acme.Permanent {
			p.Status = http.StatusServiceUnavailable
		}
	case errors.Is(err, managed.ErrNotText):
		p.Status, p.Detail = http.StatusUnprocessableEntity, "a text of the request has a NUL or is not UTF-8; use UTF-8 without NUL"
	default:
		f.Logger.Error("admin request failed", "error", err)
	}
	p.Title = http.StatusText(p.Status)
	return p
}

// faultsText returns all faults, one on a line, with remedies for the administrator.
func faultsText(e *enroll.InvalidError) string {
	lines := make([]string, 0, len(e.Faults))
	for _, fault := range e.Faults {
		switch {
		case errors.Is(fault, enroll.ErrNoURL):
			lines = append(lines, "url: the proxy does not know its name; start serve with --hostname, or set the address for this client with --url https://HOST:PORT")
		case errors.Is(fault, enroll.ErrNoACME):
			lines = append(lines, "url: the proxy does not know its name, which is part of the directory's URL; start serve with --hostname")
		case errors.Is(fault, enroll.ErrRecipientsKept):
			lines = append(lines, "recipient: valid only with --replace; a host adds its own recipients when it enrols, see acmeproxy remote enroll --help")
		default:
			lines = append(lines, fault.Error())
		}
	}
	return strings.Join(lines, "\n")
}
