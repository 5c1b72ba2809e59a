// Package acme is the ACME door of the proxy: it bounds what strangers can use before a
// request reaches the acmeserver.Server, which speaks the protocol.
//
// A caller is a stranger until the Server has verified the signature of one of its
// requests and knows its client. Then Known lifts the limits for strangers from the
// connection. Unknown imposes them again when the client is refused.
//
// It must never log a path: that of a secret directory lets its reader act as the client.
//
//	door := acme.New(acme.Config{Server: func() http.Handler { return server }})
//	relay := relay.New(relay.Config{Known: acme.Known, Unknown: acme.Unknown, …})
package acme

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	protocol "github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/auth"
	"github.com/acmeproxy/acmeproxy/pkg/connlimit"
)

// Config holds the dependencies and limits of the frontend.
type Config struct {
	// Server returns the ACME server, or nil while the proxy has no public URL.
	Server func() http.Handler
	// StrangerBody is the time limit for the body of a stranger's request, and
	// StrangerAnswer the further time for the answer. If 0, they are 8 s and 2 s.
	StrangerBody, StrangerAnswer time.Duration
	// Strangers is the maximum number of their requests in progress, and Requests that of
	// known clients. An address may have at most as many of them as are free. If 0, they
	// are 256 and 1024.
	Strangers, Requests int
}

const (
	// maxBody is the size of the largest request, in bytes: a finalize with the CSR of a
	// hundred names and a large key has less than half of it.
	maxBody = 64 << 10
	// onConn is how many requests of a stranger may be in progress on a connection. Further
	// ones wait: a client that begins with many names at once, such as Caddy, sends them
	// all on one connection before it has signed anything.
	onConn = 2
	// clientBody and clientAnswer are the time limits of a known client's body and answer.
	clientBody, clientAnswer = 10 * time.Second, time.Minute

	retryAfter = 5 // seconds
)

type frontend struct {
	Config
	strangers, requests *connlimit.Places
	waiting             *connlimit.Places // strangers' requests that wait for others on their connection
}

// New returns the handler of the door.
func New(cfg Config) http.Handler {
	cfg.StrangerBody = cmp.Or(cfg.StrangerBody, 8*time.Second)
	cfg.StrangerAnswer = cmp.Or(cfg.StrangerAnswer, 2*time.Second)
	cfg.Strangers, cfg.Requests = cmp.Or(cfg.Strangers, 256), cmp.Or(cfg.Requests, 1024)
	return &frontend{
		Config: cfg, strangers: connlimit.NewPlaces(cfg.Strangers), requests: connlimit.NewPlaces(cfg.Requests),
		waiting: connlimit.NewPlaces(2 * cfg.Strangers),
	}
}

// ServeHTTP implements http.Handler.
func (f *frontend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v := &visit{conn: connlimit.FromContext(r.Context()), w: w, release: func() {}}
	if v.conn.Known() {
		f.serveClient(r, v)
		return
	}
	end, ok := v.conn.Begin(onConn)
	if !ok {
		end, ok = f.await(r, v.conn)
	}
	if !ok {
		refuseBusy(w, v.conn)
		return
	}
	defer end()
	if v.conn.Known() { // since it waited
		f.serveClient(r, v)
		return
	}
	v.stranger = true
	f.serveStranger(r, v)
}

// await waits for the end of another request on a stranger's connection.
func (f *frontend) await(r *http.Request, conn *connlimit.Conn) (end func(), ok bool) {
	release, ok := f.waiting.Take(auth.RemoteAddr(r))
	if !ok {
		return nil, false
	}
	defer release()
	ctx, cancel := context.WithTimeout(r.Context(), f.StrangerBody)
	defer cancel()
	return conn.Await(ctx, onConn)
}

// serveClient answers a request on the connection of a known client. It has one of the
// places from the start, because its body is in memory.
func (f *frontend) serveClient(r *http.Request, v *visit) {
	if !v.take(f.requests, r) {
		return
	}
	defer v.release()
	v.allow(clientBody, clientAnswer)
	f.answer(r, v)
	if !v.proven.Load() && r.ContentLength != 0 {
		v.conn.Doubt() // otherwise a client that was locked out would stay known without signing
	}
}

// serveStranger answers a request of a stranger. It takes a place when the body is there,
// so that slow strangers occupy only their connections.
func (f *frontend) serveStranger(r *http.Request, v *visit) {
	v.allow(f.StrangerBody, f.StrangerAnswer)
	body, err := io.ReadAll(http.MaxBytesReader(v.w, r.Body, maxBody))
	if err != nil {
		refuseBody(v.w, err)
		return
	}
	if !v.take(f.strangers, r) {
		return
	}
	defer v.release()
	r = r.WithContext(r.Context()) // a copy
	r.Body = io.NopCloser(bytes.NewReader(body))
	f.answer(r, v)
	if v.stranger && r.ProtoMajor == 2 {
		// This blocks while the stranger leaves no flow-control window for the answer.
		http.NewResponseController(v.w).Flush()
	}
}

func (f *frontend) answer(r *http.Request, v *visit) {
	server := f.Server()
	if server == nil {
		writeProblem(v.w, http.StatusServiceUnavailable, protocol.ServerInternal, "the proxy does not know its public name yet; ask its administrator to set it")
		return
	}
	r = r.WithContext(context.WithValue(r.Context(), visitKey{}, v))
	r.Body = http.MaxBytesReader(v.w, r.Body, maxBody)
	server.ServeHTTP(&placeWriter{v.w, v}, r)
}

// visit is one request.
type visit struct {
	conn     *connlimit.Conn
	w        http.ResponseWriter
	stranger bool
	release  func()      // of its place; may be called more than once
	proven   atomic.Bool // the client is known by this request
}

// take takes a place. If there is no free one, it answers and reports false.
func (v *visit) take(places *connlimit.Places, r *http.Request) bool {
	release, ok := places.Take(auth.RemoteAddr(r))
	if !ok {
		refuseBusy(v.w, v.conn)
		return false
	}
	v.release = sync.OnceFunc(release)
	return true
}

// allow sets the time limits of the body and of the answer after it.
func (v *visit) allow(body, answer time.Duration) {
	now := time.Now()
	control := http.NewResponseController(v.w)
	control.SetReadDeadline(now.Add(body))
	control.SetWriteDeadline(now.Add(body + answer))
}

// visitKey is the key of the only value that this package puts into a context. The
// interfaces of the Server pass no request.
type visitKey struct{}

// Known records that the client of the request in ctx is known. From then on, the limits
// for strangers do not apply to its connection, nor to the request.
func Known(ctx context.Context, clientID string) {
	v, ok := ctx.Value(visitKey{}).(*visit)
	if !ok {
		return
	}
	v.proven.Store(true)
	v.conn.Know(clientID)
	if v.stranger {
		v.stranger = false
		v.release() // that of a stranger
		http.NewResponseController(v.w).SetWriteDeadline(time.Now().Add(clientAnswer))
	}
}

// Unknown records that the client of the request in ctx may not use the door any more. Its
// connection is a stranger's again.
func Unknown(ctx context.Context) {
	if v, ok := ctx.Value(visitKey{}).(*visit); ok {
		v.conn.Forget()
	}
}

// placeWriter releases the place of a request when the answer begins, because the caller
// can refuse to read it. With many addresses, a client could keep all places from others.
type placeWriter struct {
	http.ResponseWriter
	visit *visit
}

// WriteHeader implements http.ResponseWriter.
func (p *placeWriter) WriteHeader(status int) {
	p.visit.release()
	p.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (p *placeWriter) Write(b []byte) (int, error) {
	p.visit.release()
	return p.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (p *placeWriter) Unwrap() http.ResponseWriter { return p.ResponseWriter }

// refuseBusy refuses a request. The answer has no body, because a stranger could refuse
// to read it.
func refuseBusy(w http.ResponseWriter, conn *connlimit.Conn) {
	conn.Deny()
	h := w.Header()
	h.Set("Retry-After", strconv.Itoa(retryAfter))
	h.Set("Content-Length", "0")
	h.Set("Content-Type", problemType)
	w.WriteHeader(http.StatusServiceUnavailable)
}

func refuseBody(w http.ResponseWriter, err error) {
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		writeProblem(w, http.StatusRequestEntityTooLarge, protocol.Malformed, "the request is larger than "+strconv.FormatInt(large.Limit, 10)+" bytes")
		return
	}
	writeProblem(w, http.StatusBadRequest, protocol.Malformed, "the request's body ended early")
}

const problemType = "application/problem+json"

func writeProblem(w http.ResponseWriter, status int, kind, detail string) {
	body, err := json.Marshal(protocol.Problem{Type: kind, Status: status, Detail: detail})
	if err != nil {
		panic(err) // texts and a number
	}
	h := w.Header()
	h.Set("Content-Type", problemType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	w.Write(body)
}
