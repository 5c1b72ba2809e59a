package rest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"golang.org/x/time/rate"

	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/auth"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/connlimit"
)

// identityKey and requestKey are the keys of the only values that this package puts into
// a context. They are needed because huma passes no request to a handler.
type (
	identityKey struct{}
	requestKey  struct{}
)

// caller returns the authenticated client. Every operation except enrol has one.
func caller(ctx context.Context) clients.Identity {
	id, ok := ctx.Value(identityKey{}).(clients.Identity)
	if !ok {
		panic("rest: an operation without an authenticated caller")
	}
	return id
}

// isPublic reports whether a path is readable without authentication. Its content must
// be fixed and cheap to serve.
func isPublic(path string) bool { return path == api.PathHealth || path == api.PathOpenAPI }

// authenticated calls next if the caller is known, for an enrolment, and for a public
// path.
func (f *frontend) authenticated(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := context.WithValue(r.Context(), requestKey{}, r)
		switch {
		case r.TLS != nil && r.TLS.Version < tls.VersionTLS13:
			f.answerStranger(w, r, strangersOfConn, func() { f.writeProblem(w, oldTLS()) })
			return
		case r.URL.Path == api.PathEnroll:
			f.answerStranger(w, r, 1, func() {
				r.Body = http.MaxBytesReader(w, r.Body, api.MaxEnroll)
				if f.readBody(w, r) {
					f.answerInPlace(w, r, func(w http.ResponseWriter) { next.ServeHTTP(w, r.WithContext(ctx)) })
				}
			})
			return
		case isPublic(r.URL.Path):
			f.answerStranger(w, r, strangersOfConn, func() { next.ServeHTTP(w, r.WithContext(ctx)) })
			return
		case !strings.HasPrefix(r.URL.Path, "/v1/"):
			f.answerStranger(w, r, strangersOfConn, func() { http.NotFound(w, r) })
			return
		}
		id, err := f.lookUp(r)
		if err != nil {
			f.unauthorized(w, r, err)
			return
		}
		ctx = context.WithValue(ctx, identityKey{}, id)
		if isChallenge(r) {
			r.Body = http.MaxBytesReader(w, r.Body, api.MaxPresent)
		}
		begin := time.Now()
		if !f.readClientBody(w, r, id.Client.ID) {
			return
		}
		if time.Since(begin) > maxUncheckedWait {
			id, err := f.authenticateAgain(r.WithContext(ctx))
			if err != nil {
				f.unauthorized(w, r, err)
				return
			}
			ctx = context.WithValue(ctx, identityKey{}, id)
		}
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// oldTLS refuses a request over TLS 1.2, which the port accepts for the ACME door only.
func oldTLS() error {
	err := huma.NewError(http.StatusUpgradeRequired, "this API needs TLS 1.3; use a program or a library that supports it")
	return huma.ErrorWithHeaders(err, http.Header{"Upgrade": {"TLS/1.3, HTTP/1.1"}, "Connection": {"Upgrade"}})
}

// maxUncheckedWait is how long a request may wait before its caller must be
// authenticated again.
const maxUncheckedWait = time.Second

// authenticateAgain returns the caller's current identity. During a long wait, the client
// may have been disabled, or its credential or grants removed. Errors are those of
// auth.Authenticate.
func (f *frontend) authenticateAgain(r *http.Request) (clients.Identity, error) {
	before := caller(r.Context())
	id, err := f.Auth.Authenticate(r)
	if err == nil && id.Client.ID != before.Client.ID {
		err = &auth.Error{Reason: auth.ReasonUnknown, Addr: id.Addr}
	}
	return id, err
}

// errBusy reports that the caller cannot be looked up now.
var errBusy = errors.New("too many callers are being looked up")

// lookUp authenticates the caller. After a success, the limits for strangers do not
// apply to the connection.
func (f *frontend) lookUp(r *http.Request) (clients.Identity, error) {
	conn := connlimit.FromContext(r.Context())
	if !conn.Known() {
		release, ok := f.lookups.Take(auth.RemoteAddr(r))
		if !ok {
			return clients.Identity{}, errBusy
		}
		defer release()
	}
	id, err := f.Auth.Authenticate(r)
	if err == nil {
		conn.Know(id.Client.ID)
	}
	return id, err
}

// answerStranger answers a request of an unknown caller, with short time limits for the
// body and the answer. The request uses only its connection, which may have most of
// them in progress.
func (f *frontend) answerStranger(w http.ResponseWriter, r *http.Request, most int32, answer func()) {
	end, ok := connlimit.FromContext(r.Context()).Begin(most)
	if !ok {
		refuseBusy(w, r)
		return
	}
	defer end()
	now := time.Now()
	control := http.NewResponseController(w)
	control.SetReadDeadline(now.Add(f.StrangerBody))
	control.SetWriteDeadline(now.Add(f.StrangerBody + f.StrangerAnswer))
	answer()
	if r.ProtoMajor == 2 {
		control.Flush() // blocks while the stranger leaves no flow-control window for the answer
	}
}

// answerInPlace computes an answer while it holds one of the places for all strangers.
// It releases the place when the answer begins, because the stranger can refuse to
// read the answer.
func (f *frontend) answerInPlace(w http.ResponseWriter, r *http.Request, answer func(http.ResponseWriter)) {
	release, ok := f.strangers.Take(auth.RemoteAddr(r))
	if !ok {
		refuseBusy(w, r)
		return
	}
	release = sync.OnceFunc(release)
	defer release()
	answer(&placeWriter{w, release})
}

// placeWriter releases a place when the answer begins.
type placeWriter struct {
	http.ResponseWriter
	release func()
}

func (p *placeWriter) WriteHeader(status int) {
	p.release()
	p.ResponseWriter.WriteHeader(status)
}

func (p *placeWriter) Write(b []byte) (int, error) {
	p.release()
	return p.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (p *placeWriter) Unwrap() http.ResponseWriter { return p.ResponseWriter }

// refuseBusy refuses a stranger's request. The answer has no body, because the stranger
// could refuse to read it.
func refuseBusy(w http.ResponseWriter, r *http.Request) {
	connlimit.FromContext(r.Context()).Deny()
	w.Header().Set("Retry-After", strconv.Itoa(busySeconds))
	w.Header().Set("Content-Length", "0")
	w.Header().Set("Content-Type", api.TypeProblem)
	w.WriteHeader(http.StatusServiceUnavailable)
}

// unauthorized answers a request of an unknown caller.
func (f *frontend) unauthorized(w http.ResponseWriter, r *http.Request, err error) {
	f.answerStranger(w, r, strangersOfConn, func() {
		f.answerInPlace(w, r, func(w http.ResponseWriter) { f.refuseCaller(w, r, err) })
	})
}

func (f *frontend) refuseCaller(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, errBusy) {
		f.writeProblem(w, retryLater(http.StatusServiceUnavailable, "too many requests of unknown callers are in progress; try again soon"))
		return
	}
	var refused *auth.Error
	if !errors.As(err, &refused) {
		f.writeProblem(w, f.problem(r.Context(), err))
		return
	}
	f.Audit.RefuseCaller(r.Context(), refused)
	w.Header().Set("WWW-Authenticate", `Bearer realm="acmeproxy"`)
	f.writeProblem(w, huma.NewError(http.StatusUnauthorized, refused.Error()))
}

func (f *frontend) serveHealth(w http.ResponseWriter, r *http.Request) {
	h, status := api.Health{Status: "pass"}, http.StatusOK
	err := f.Health(r.Context())
	if f.unhealthy.Swap(err != nil) != (err != nil) { // once for each change: anyone may ask
		f.Logger.Warn("health", "pass", err == nil, "error", err)
	}
	if err != nil {
		h, status = api.Health{Status: "fail", Output: "the proxy's log has the cause"}, http.StatusServiceUnavailable
	}
	w.Header().Set("Cache-Control", "no-store")
	writeJSON(w, status, api.TypeHealth, h)
}

// logged writes one event for each request. The event contains the route, and neither
// the path nor the client, because requests of gateway clients must not be logged.
func (f *frontend) logged(next http.Handler) http.Handler {
	warnings := rate.NewLimiter(warningsEvery, warningsAtOnce) // so that strangers cannot fill the disk
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		s := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		f.serveRecovered(next, s, r)
		level := slog.LevelDebug
		if s.status >= 500 && warnings.Allow() {
			level = slog.LevelWarn
		}
		f.Logger.Log(r.Context(), level, "request", "method", cut(r.Method, 16), "route", route(r), "status", s.status, "took", time.Since(start).Round(time.Millisecond))
	})
}

// The rate limit of warnings about requests. Further events have level debug.
const (
	warningsEvery  = 1 // per second
	warningsAtOnce = 30
)

// serveRecovered calls next. It answers 500 if next panics, and logs the cause.
func (f *frontend) serveRecovered(next http.Handler, w *statusWriter, r *http.Request) {
	defer func() {
		v := recover()
		if v == nil {
			return
		}
		cause := fmt.Sprintf("%T", v) // its text may hold what must not be logged
		if e, ok := v.(runtime.Error); ok {
			cause = e.Error()
		}
		f.Logger.Error("request panicked", "route", route(r), "cause", cause, "stack", string(debug.Stack()))
		if w.begun {
			panic(http.ErrAbortHandler) // a partial answer must not look complete
		}
		f.writeProblem(w, huma.NewError(http.StatusInternalServerError, internalDetail))
	}()
	next.ServeHTTP(w, r)
}

// route returns the path without identifiers. The mux's own pattern is not available
// outside the mux.
func route(r *http.Request) string {
	if r.URL.Path == api.PathRevoke {
		return api.PathRevoke
	}
	if rest, ok := strings.CutPrefix(r.URL.Path, api.PathCertificates+"/"); ok {
		if _, action, ok := strings.Cut(rest, "/"); ok && (action == "bundle" || action == "renew") {
			return api.PathCertificates + "/{id}/" + action
		}
		return api.PathCertificates + "/{id}"
	}
	if isChallenge(r) {
		return api.PathHTTP01 + "/{token}"
	}
	switch r.URL.Path {
	case api.PathCertificates, api.PathClient, api.PathClientKey, api.PathChecks, api.PathEnroll, api.PathHealth, api.PathOpenAPI:
		return r.URL.Path
	}
	return "other"
}

type statusWriter struct {
	http.ResponseWriter
	status int
	begun  bool // whether the answer has begun
}

func (s *statusWriter) WriteHeader(status int) {
	s.status, s.begun = status, true
	s.ResponseWriter.WriteHeader(status)
}

func (s *statusWriter) Write(b []byte) (int, error) {
	s.begun = true
	return s.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (s *statusWriter) Unwrap() http.ResponseWriter { return s.ResponseWriter }
