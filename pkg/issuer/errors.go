package issuer

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-acme/lego/v4/acme"
	"github.com/go-acme/lego/v4/providers/dns/acmedns"
)

// Kind says what can be done about a failed issuance.
type Kind string

// The kinds of failure.
const (
	Temporary   Kind = "temporary"    // the CA or the way to it is unwell: try again later
	Permanent   Kind = "permanent"    // somebody must change something first: DNS, the names, the CSR
	RateLimited Kind = "rate limited" // the CA asks to wait until RetryAt
)

// Error is why an issuance failed. Its text may hold names: gateway mode must
// show it to the client that asked and to nobody else. It may also name hosts,
// addresses and files of the administrator's: a client reads ForClient instead.
type Error struct {
	Kind       Kind
	Op         string    // what was being done, such as "finalize"; may be empty
	Type       string    // the CA's problem type (urn:ietf:params:acme:error:…), if it sent one
	Detail     string    // for people
	Identifier string    // the identifier that failed, if it is one
	RetryAt    time.Time // not before; zero if the CA did not say
	Err        error     // the cause, may be nil

	// Ordered reports whether there was an order. The error of [Issuer.Issue]
	// has it.
	Ordered bool

	// Told reports whether Detail has RetryAt already, or who asks for it.
	Told bool

	final bool // the order can never be finished
}

func (e *Error) Error() string { return e.text(e.Detail) }

// Hidden is what a client reads where the administrator reads the cause.
const Hidden = "failed at the proxy, or between it and the CA; the proxy's log has the cause"

// ForClient returns the text without what only the administrator may know. Words
// of the CA and our own stay. The cause of anything else, such as an exchange
// with a DNS provider or a hook, may name an endpoint inside or a file.
func (e *Error) ForClient() string {
	if e.isPublic() {
		return e.text(e.Detail)
	}
	return e.text(Hidden)
}

func (e *Error) isPublic() bool {
	var cname acmedns.ErrCNAMERequired
	return e.Err == nil || problemOf(e.Err) != nil || errors.As(e.Err, &cname) || e.Detail == stopped
}

// stopped is the detail of an issuance whose context ended.
const stopped = "stopped before the CA was done"

func (e *Error) text(detail string) string {
	var b strings.Builder
	if op := strings.TrimSpace(e.Op + " " + e.Identifier); op != "" {
		b.WriteString(op + ": ")
	}
	b.WriteString(detail)
	if short := strings.TrimPrefix(e.Type, "urn:ietf:params:acme:error:"); short != "" {
		b.WriteString(" (" + short + ")")
	}
	if !e.RetryAt.IsZero() && !e.Told {
		b.WriteString("; the CA asks to wait until " + e.RetryAt.UTC().Format(time.RFC3339))
	}
	return b.String()
}

func (e *Error) Unwrap() error { return e.Err }

func permanent(op, format string, args ...any) *Error {
	return &Error{Kind: Permanent, Op: op, Detail: fmt.Sprintf(format, args...)}
}

// missing makes an error temporary if the CA does not know a resource that it
// has created itself: another of its servers may. The next attempt, which reads
// the order first, finds out.
func missing(err error) error {
	var e *Error
	if statusOf(err) == http.StatusNotFound && errors.As(err, &e) {
		e.Kind = Temporary
	}
	return err
}

const acmeNS = "urn:ietf:params:acme:error:"

// refusal is an answer with an error status.
type refusal struct {
	problem acme.ProblemDetails // its HTTPStatus is the answer's, whatever the document says
	page    bool                // without a problem document: something in between answered
	retryAt time.Time           // Retry-After; zero if there was none
}

func (r *refusal) Error() string { return r.problem.Error() }

// refusal reads an answer with an error status.
func (s *session) refusal(url string, resp *http.Response, body []byte) *refusal {
	r := &refusal{retryAt: s.retryAfter(url)}
	trimmed := bytes.TrimSpace(body)
	if resp.StatusCode < 400 || !bytes.HasPrefix(trimmed, []byte("{")) || json.Unmarshal(trimmed, &r.problem) != nil {
		r.page = true
		r.problem = acme.ProblemDetails{Detail: fmt.Sprintf("the CA answered %d %s without a problem document",
			resp.StatusCode, http.StatusText(resp.StatusCode))}
	}
	r.problem.HTTPStatus = resp.StatusCode
	if r.problem.Type == acmeNS+"userActionRequired" {
		r.problem.Instance = actionURL(url, r.problem.Instance, resp.Header)
	}
	return r
}

// actionURL returns where a person has to do something (RFC 8555, section
// 7.3.3): often to accept new terms of service.
func actionURL(base, instance string, h http.Header) string {
	if instance == "" {
		for _, link := range links(base, h, "terms-of-service") {
			instance = link
		}
	}
	from, err := url.Parse(base)
	if err != nil || instance == "" {
		return ""
	}
	u, err := from.Parse(instance)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || len(instance) > maxURL {
		return ""
	}
	return u.String()
}

// statusOf returns the HTTP status of a refusal, or 0.
func statusOf(err error) int {
	var r *refusal
	if errors.As(err, &r) {
		return r.problem.HTTPStatus
	}
	return 0
}

// classify turns what lego and net/http return into an *Error. retryAt counts
// where the answer had no Retry-After.
func classify(op string, err error, retryAt time.Time) error {
	var done *Error
	if errors.As(err, &done) {
		return err
	}
	if isContext(err) {
		return &Error{Kind: Temporary, Op: op, Detail: stopped, RetryAt: retryAt, Err: err}
	}
	var r *refusal
	if errors.As(err, &r) {
		if !r.retryAt.IsZero() {
			retryAt = r.retryAt
		}
		return fromProblem(op, &r.problem, retryAt, err)
	}
	if p := problemOf(err); p != nil {
		return fromProblem(op, p, retryAt, err)
	}
	detail := shorten(err.Error())
	var unknown x509.UnknownAuthorityError
	if errors.As(err, &unknown) {
		detail += "; if this CA has a root of its own, name its PEM file in LEGO_CA_CERTIFICATES"
	}
	return &Error{Kind: Temporary, Op: op, Detail: detail, RetryAt: retryAt, Err: err}
}

// problemOf finds the CA's problem document in an error.
func problemOf(err error) *acme.ProblemDetails {
	var r *refusal
	if errors.As(err, &r) {
		return &r.problem
	}
	var p *acme.ProblemDetails
	if errors.As(err, &p) {
		return p
	}
	return nil
}

func fromProblem(op string, p *acme.ProblemDetails, retryAt time.Time, err error) *Error {
	e := &Error{Kind: kindOf(p), Op: op, Type: p.Type, Detail: p.Detail, RetryAt: retryAt, Err: err}
	for _, sub := range p.SubProblems {
		e.Detail += fmt.Sprintf("; %s: %s", sub.Identifier.Value, sub.Detail)
	}
	e.Detail = shorten(e.Detail)
	if page := actionURL("", p.Instance, nil); page != "" && p.Type == acmeNS+"userActionRequired" {
		e.Detail = strings.TrimSuffix(e.Detail, ".") + "; open " + shorten(page)
	}
	if e.Detail == "" {
		e.Detail = fmt.Sprintf("the CA answered %d %s", p.HTTPStatus, http.StatusText(p.HTTPStatus))
	}
	return e
}

// shorten bounds what a CA can make us log or send on, and makes one line of it.
func shorten(s string) string {
	const limit = 1024
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > limit {
		s = s[:limit] + "…"
	}
	return strings.ToValidUTF8(s, "?")
}

// kindOf decides by the HTTP status first: what a CA says while it is unwell
// counts for nothing, and a page from a firewall has no problem type at all.
func kindOf(p *acme.ProblemDetails) Kind {
	switch {
	case p.HTTPStatus == http.StatusTooManyRequests, p.Type == acmeNS+"rateLimited":
		return RateLimited
	case p.HTTPStatus >= 500, p.HTTPStatus >= 300 && p.HTTPStatus < 400,
		p.HTTPStatus == http.StatusRequestTimeout, p.HTTPStatus == http.StatusTooEarly:
		return Temporary
	case p.Type == acmeNS+"badNonce", p.Type == acmeNS+"serverInternal", (p.Type == "" || p.Type == "about:blank") && p.HTTPStatus >= 400:
		return Temporary
	}
	return Permanent
}

// isProblem reports whether the CA answered with that problem type.
func isProblem(err error, short string) bool {
	p := problemOf(err)
	return p != nil && p.Type == acmeNS+short
}
