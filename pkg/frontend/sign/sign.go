// Package sign is the HTTP interface of ACMEMS: a script posts a CSR to /sign and receives
// the certificate. It decodes, asks and encodes; it decides nothing.
//
// Statuses, headers and bodies are those of ACMEMS, except: 405 for another method, 411 for a
// missing Content-Length, and 403 for a malformed header Authentication, which are 501, 500
// and 500 there. The text of an error page differs, too; it names the cause.
//
//	door := sign.New(sign.Config{Begin: signing.Begin, MaxSize: rules.MaxSize, Logger: logger})
package sign

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acmems"
	"github.com/acmeproxy/acmeproxy/pkg/auth"
	"github.com/acmeproxy/acmeproxy/pkg/bodymac"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/connlimit"
)

// Path is the only path of the interface.
const Path = "/sign"

// Attempt obtains the chain for the CSR in body, in PEM.
type Attempt = func(ctx context.Context, body []byte) (chain []byte, err error)

// Config holds the dependencies and limits of the interface.
type Config struct {
	// Begin decides whether a caller can have anything, before its body is read. Errors of
	// Begin and of the Attempt: *policy.Denied, *cert.FieldError, *audit.QuotaExceeded,
	// *audit.TooSoon, *acme.Error. Others are internal faults.
	Begin func(ctx context.Context, by acmems.Caller) (Attempt, error)
	// MaxSize is the size of the largest CSR, in bytes. If 0 or larger, it is cert.MaxCSR.
	MaxSize int
	// Body and Answer are the time limits for a request's body, and for the issuance and the
	// answer after it. If 0, they are 10 seconds and 2 minutes.
	Body, Answer time.Duration
	// Requests is the maximum number of requests in progress whose body is there. An address
	// may have at most as many of them as are free. If 0, it is 1024.
	Requests int
	// Logger logs internal faults. It must be set.
	Logger *slog.Logger
	// Now returns the time for Retry-After. If nil, it is time.Now.
	Now func() time.Time
}

type frontend struct {
	Config
	requests *connlimit.Places
}

// New returns the handler. It serves no path but Path.
func New(cfg Config) http.Handler {
	if cfg.MaxSize <= 0 || cfg.MaxSize > cert.MaxCSR {
		cfg.MaxSize = cert.MaxCSR
	}
	cfg.Body, cfg.Answer = cmp.Or(cfg.Body, 10*time.Second), cmp.Or(cfg.Answer, 2*time.Minute)
	cfg.Requests = cmp.Or(cfg.Requests, 1024)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &frontend{cfg, connlimit.NewPlaces(cfg.Requests)}
}

// ServeHTTP implements http.Handler.
func (f *frontend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.allow(w)
	chain, err := f.serve(w, r)
	if err != nil {
		f.refuse(w, r, err)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/plain")
	h.Set("Content-Length", strconv.Itoa(len(chain)))
	w.Write(chain) //nolint:gosec // a checked PEM chain, as text
}

// allow sets the time limits of the body and of the answer after it.
func (f *frontend) allow(w http.ResponseWriter) {
	now := time.Now()
	control := http.NewResponseController(w)
	control.SetReadDeadline(now.Add(f.Body))
	control.SetWriteDeadline(now.Add(f.Body + f.Answer))
}

// serve checks in the order of ACMEMS: path, method, caller, size, body.
func (f *frontend) serve(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if r.RequestURI != Path {
		return nil, status(http.StatusNotFound, "nothing is here; send a CSR to "+Path)
	}
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		return nil, status(http.StatusMethodNotAllowed, "send a CSR with the method POST")
	}
	by := acmems.Caller{Addr: auth.RemoteAddr(r)}
	if mac, ok := bodymac.ParseHeader(r.Header.Get(bodymac.Header)); ok {
		by.MAC = mac
	}
	attempt, err := f.Begin(r.Context(), by)
	if err != nil {
		return nil, err
	}
	body, err := f.body(r)
	if err != nil {
		return nil, err
	}
	release, ok := f.requests.Take(by.Addr)
	if !ok {
		return nil, status(http.StatusServiceUnavailable, "too many requests are in progress; try again later")
	}
	defer release()
	return attempt(r.Context(), body)
}

// body reads the body, which must have a Content-Length and not be larger than MaxSize.
func (f *frontend) body(r *http.Request) ([]byte, error) {
	switch {
	case r.ContentLength < 0 || r.Header.Get("Content-Length") == "":
		return nil, status(http.StatusLengthRequired, "the request has no Content-Length; send the CSR as a file of known size")
	case r.ContentLength > int64(f.MaxSize):
		return nil, status(http.StatusRequestEntityTooLarge, fmt.Sprintf("the CSR is larger than %d bytes; ask the administrator for a higher max-size", f.MaxSize))
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, int64(f.MaxSize)))
	if err != nil || int64(len(body)) != r.ContentLength {
		return nil, status(http.StatusBadRequest, "the body ended early")
	}
	return body, nil
}
