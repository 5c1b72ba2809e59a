package sign

import (
	"bytes"
	"errors"
	"fmt"
	"html/template"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/audit"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/policy"
)

// The reasons of ACMEMS that differ from the usual text of a status. wget shows them.
const (
	reasonValidation = "Misdirected Request: Validation failed"
	reasonRateLimit  = "Certificate declined due to rate limiting"
)

// refusal is an answer with an error status.
type refusal struct {
	status  int
	reason  string // of the status line; if empty, the usual text
	detail  string // for people
	retryAt time.Time
}

func (r *refusal) Error() string { return r.detail }

func status(code int, detail string) error { return &refusal{status: code, detail: detail} }

// refusalOf converts an error. Only refusalOf chooses status codes. The client gets no
// details of an internal fault, which is logged.
func (f *frontend) refusalOf(err error) *refusal {
	var own *refusal
	var denied *policy.Denied
	var field *cert.FieldError
	var quota *audit.QuotaExceeded
	var soon *audit.TooSoon
	var failed *acme.Error
	switch {
	case errors.As(err, &own):
		return own
	case errors.As(err, &denied):
		return &refusal{status: http.StatusForbidden, detail: denied.Reason}
	case errors.As(err, &field):
		return &refusal{status: http.StatusUnsupportedMediaType, detail: field.Error()}
	case errors.As(err, &quota):
		return &refusal{http.StatusTooManyRequests, reasonRateLimit, "the daily quota is used up; ask the administrator for a higher one", quota.RetryAt}
	case errors.As(err, &soon):
		return &refusal{http.StatusTooManyRequests, reasonRateLimit, soon.Reason, soon.RetryAt}
	case errors.As(err, &failed):
		return caRefusal(failed)
	}
	f.Logger.Error("a request to sign a CSR failed", "error", err)
	return &refusal{status: http.StatusInternalServerError, detail: "internal error; the proxy's log has the cause"}
}

// caRefusal returns the answer for a failure at the CA, or between it and the proxy.
func caRefusal(e *acme.Error) *refusal {
	r := &refusal{status: http.StatusInternalServerError, detail: e.ForClient(), retryAt: e.RetryAt}
	switch {
	case e.Kind == acme.RateLimited:
		r.status, r.reason = http.StatusTooManyRequests, reasonRateLimit
	case e.IsValidation():
		r.status, r.reason = http.StatusMisdirectedRequest, reasonValidation
	}
	return r
}

var page = template.Must(template.New("").Parse(`<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>{{.Status}} {{.Reason}}</title></head>
<body>
<h1>{{.Status}} {{.Reason}}</h1>
<p>{{.Detail}}</p>
</body>
</html>
`))

// refuse answers with a page for people and closes the connection, as ACMEMS does.
func (f *frontend) refuse(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil {
		panic(http.ErrAbortHandler) // the client has left
	}
	no := f.refusalOf(err)
	reason := no.reason
	if reason == "" {
		reason = http.StatusText(no.status)
	}
	var body bytes.Buffer
	if err := page.Execute(&body, map[string]any{"Status": no.status, "Reason": reason, "Detail": no.detail}); err != nil {
		panic(err) // a number and texts
	}
	h := w.Header()
	h.Set("Content-Type", "text/html;charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(body.Len()))
	h.Set("Connection", "close")
	if wait := no.retryAt.Sub(f.Now()); wait > 0 {
		h.Set("Retry-After", strconv.Itoa(int(wait/time.Second)+1))
	}
	if no.reason != "" && r.ProtoMajor == 1 && writeReason(w, no.status, no.reason, body.Bytes()) {
		return
	}
	w.WriteHeader(no.status)
	w.Write(body.Bytes())
}

// writeReason writes an answer with another reason than the usual one, which net/http
// cannot do. The request's body must have been read. It returns false, and has written
// nothing, if the connection cannot be taken over.
func writeReason(w http.ResponseWriter, status int, reason string, body []byte) bool {
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return false
	}
	defer conn.Close()
	answer := net.Buffers{fmt.Appendf(nil, "HTTP/1.1 %d %s\r\nDate: %s\r\n", status, reason, time.Now().UTC().Format(http.TimeFormat))}
	var headers bytes.Buffer
	if err := w.Header().Write(&headers); err != nil || buffered.Writer.Buffered() > 0 {
		return true // closed without an answer; neither happens
	}
	answer = append(answer, headers.Bytes(), []byte("\r\n"), body)
	answer.WriteTo(conn) //nolint:errcheck // the client has left
	return true
}
