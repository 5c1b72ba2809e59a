package acmeserver

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/printable"
)

// ServeHTTP implements http.Handler. The path of a request begins with that of
// Config.URL. The http.Server must have timeouts, because the Server sets none.
func (s *Server) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	x := &exchange{ResponseWriter: w, begin: time.Now()}
	r := req.WithContext(req.Context()) // a copy, because the mux changes it
	r.Pattern = ""
	if r.Body != nil {
		r.Body = http.MaxBytesReader(w, r.Body, s.cfg.Limits.Body)
	}
	defer s.logRequest(x, r)
	defer s.answerPanic(x, r)
	h := x.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Link", link(s.directoryOf(r), "index"))
	nonce, err := s.nonces.create(r.Context())
	if err != nil {
		s.fail(x, r, err)
		return
	}
	h.Set("Replay-Nonce", nonce)
	if !isClean(strings.TrimSuffix(r.URL.EscapedPath(), "/")) {
		s.serveUnknown(x, r) // the mux would redirect, but a signed request has one URL
		return
	}
	s.mux.ServeHTTP(x, r)
}

// isClean reports whether a path without the slash at its end has no //, . or .. in it.
func isClean(p string) bool { return p == "" || path.Clean(p) == p }

// link returns the value of a Link header (RFC 8288).
func link(target, rel string) string { return "<" + target + `>;rel="` + rel + `"` }

// exchange is the answer to one request, and what the log says about it.
type exchange struct {
	http.ResponseWriter
	begin   time.Time
	status  int    // 0 until the answer begins
	problem string // short type of the problem document; empty: none
	note    []any  // further attributes for the log
}

// Unwrap lets http.ResponseController reach the connection.
func (x *exchange) Unwrap() http.ResponseWriter { return x.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (x *exchange) WriteHeader(status int) {
	if x.status == 0 && status >= http.StatusOK {
		x.status = status
	}
	x.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (x *exchange) Write(b []byte) (int, error) {
	if x.status == 0 {
		x.status = http.StatusOK
	}
	return x.ResponseWriter.Write(b)
}

// The rate limit of events above level debug. Strangers must not fill the disk.
const (
	eventsEvery  = 1 // per second
	eventsAtOnce = 30
)

// logRequest writes one event for each request. It contains the route instead of the
// path, because the path of an entrance may be a secret. It never contains details of
// problems, because they have names, except for refused registrations.
func (s *Server) logRequest(x *exchange, r *http.Request) {
	level := slog.LevelDebug
	switch {
	case r.Context().Err() != nil: // the client is gone
	case x.status >= http.StatusInternalServerError && s.events.Allow():
		level = slog.LevelWarn
	case x.status >= http.StatusBadRequest && isRefusal(x) && s.events.Allow():
		level = slog.LevelInfo
	}
	attrs := []any{"method", printable.Line(cut(r.Method, 16)), "route", s.route(r), "status", x.status}
	if x.problem != "" {
		attrs = append(attrs, "problem", x.problem)
	}
	attrs = append(attrs, x.note...)
	attrs = append(attrs, "took", time.Since(x.begin).Round(time.Millisecond))
	s.cfg.Logger.Log(r.Context(), level, "request", attrs...)
}

// isRefusal reports whether the answer is of interest to the administrator. An old
// nonce and a wrong path are not.
func isRefusal(x *exchange) bool {
	return x.problem != "badNonce" && x.status != http.StatusNotFound && x.status != http.StatusMethodNotAllowed
}

// route returns the path of a request below the base, without what varies in it.
func (s *Server) route(r *http.Request) string {
	_, pattern, found := strings.Cut(r.Pattern, " ")
	if !found {
		pattern = r.Pattern
	}
	if pattern == "" || pattern == "/" {
		return "other"
	}
	return strings.TrimPrefix(pattern, s.base)
}

// answerPanic ends a panic of a handler with the answer serverInternal. It must be
// deferred.
func (s *Server) answerPanic(x *exchange, r *http.Request) {
	v := recover()
	if v == nil {
		return
	}
	err, ok := v.(error)
	if ok && errors.Is(err, http.ErrAbortHandler) {
		panic(v)
	}
	cause := fmt.Sprintf("%T", v) // its text may hold what must not be logged
	var fault runtime.Error
	if ok && errors.As(err, &fault) {
		cause = fault.Error()
	}
	s.cfg.Logger.Error("request panicked", "route", s.route(r), "cause", cause, "stack", string(debug.Stack()))
	if x.status != 0 {
		panic(http.ErrAbortHandler) // a partial answer must not look complete
	}
	s.writeProblem(x, internalProblem())
}

// write writes the answer of a handler.
func (s *Server) write(w http.ResponseWriter, a *answer) {
	kind, body := a.kind, []byte(nil)
	switch b := a.body.(type) {
	case nil:
	case []byte:
		body = b
	default:
		kind, body = "application/json", encode(b)
	}
	h := w.Header()
	for name, values := range a.header {
		h[name] = values
	}
	if a.location != "" {
		h.Set("Location", a.location)
	}
	for _, l := range a.links {
		h.Add("Link", l)
	}
	if kind != "" {
		h.Set("Content-Type", kind)
	}
	writeBody(w, a.status, body)
}

func writeBody(w http.ResponseWriter, status int, body []byte) {
	if status == 0 {
		status = http.StatusOK
	}
	if status != http.StatusNoContent {
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	}
	w.WriteHeader(status)
	w.Write(body)
}

// encode returns v as JSON. Simple clients cannot decode \u0026, so it escapes no HTML.
func encode(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(fmt.Errorf("encode an answer: %w", err)) // our own types have no such values
	}
	return b.Bytes()
}

// remoteAddr returns the address of the caller, or the zero Addr if it has none.
func remoteAddr(req *http.Request) netip.Addr {
	if a, err := netip.ParseAddrPort(req.RemoteAddr); err == nil {
		return a.Addr().Unmap()
	}
	a, err := netip.ParseAddr(req.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return a.Unmap()
}

// printableURL returns a URL for the log, without what may be secret: the entrance, the
// query, a password.
func printableURL(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.Opaque != "" {
		return "(no URL)"
	}
	parts := strings.Split(u.EscapedPath(), "/")
	for i := range parts[:len(parts)-1] {
		if part, err := url.PathUnescape(parts[i]); err == nil && strings.EqualFold(part, "at") {
			parts[i+1] = "…"
		}
	}
	p := strings.Join(parts, "/")
	if u.Host != "" {
		p = u.Scheme + "://" + u.Host + p
	}
	return printable.Line(cut(p, 200))
}

func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "…"
}
