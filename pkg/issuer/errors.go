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

	legoacme "github.com/go-acme/lego/v4/acme"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
)

// stopped is the detail of an issuance whose context ended.
const stopped = "stopped before the CA was done"

func permanent(op, format string, args ...any) *acme.Error {
	return &acme.Error{Kind: acme.Permanent, Op: op, Detail: fmt.Sprintf(format, args...)}
}

// temporaryIfMissing makes an error temporary if the CA does not know a resource
// that it has created. Another of its servers may know it. The next attempt reads
// the order first.
func temporaryIfMissing(err error) error {
	var e *acme.Error
	if statusOf(err) == http.StatusNotFound && errors.As(err, &e) {
		e.Kind = acme.Temporary
	}
	return err
}

// refusal is an answer with an error status.
type refusal struct {
	problem acme.Problem // its Status is always the answer's, not the document's
	page    bool         // no problem document: a gateway answered
	retryAt time.Time    // Retry-After; zero if missing
}

func (r *refusal) Error() string { return r.problem.Error() }

// refusal reads an answer with an error status.
func (s *session) refusal(url string, resp *http.Response, body []byte) *refusal {
	r := &refusal{retryAt: s.retryAfter(url)}
	trimmed := bytes.TrimSpace(body)
	var document struct {
		*acme.Problem
		Status json.RawMessage `json:"status"` // not used; some servers send a text
	}
	document.Problem = &r.problem
	if resp.StatusCode < 400 || !bytes.HasPrefix(trimmed, []byte("{")) || json.Unmarshal(trimmed, &document) != nil {
		r.page = true
		r.problem = acme.Problem{Detail: fmt.Sprintf("the CA answered %d %s without a problem document",
			resp.StatusCode, http.StatusText(resp.StatusCode))}
	}
	r.problem.Status = resp.StatusCode
	if r.problem.Type == acme.UserActionRequired {
		r.problem.Instance = actionURL(url, r.problem.Instance, resp.Header)
	}
	return r
}

// actionURL returns the page on which the administrator has to act (RFC 8555, section
// 7.3.3), often to accept new terms of service.
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
		return r.problem.Status
	}
	return 0
}

// classify returns an error of lego or net/http as an *acme.Error. retryAt applies
// if the answer had no Retry-After.
func classify(op string, err error, retryAt time.Time) error {
	var done *acme.Error
	if errors.As(err, &done) {
		return err
	}
	if isContext(err) {
		return &acme.Error{Kind: acme.Temporary, Op: op, Detail: stopped, RetryAt: retryAt, Err: err, Public: true}
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
	detail := acme.Shorten(err.Error())
	var unknown x509.UnknownAuthorityError
	if errors.As(err, &unknown) {
		detail += "; if the CA has its own root, set ca-certificates or LEGO_CA_CERTIFICATES to its PEM file"
	}
	return &acme.Error{Kind: acme.Temporary, Op: op, Detail: detail, RetryAt: retryAt, Err: err}
}

// problemOf returns the CA's problem document in an error, or nil.
func problemOf(err error) *acme.Problem {
	var r *refusal
	if errors.As(err, &r) {
		return &r.problem
	}
	var p *legoacme.ProblemDetails
	if !errors.As(err, &p) {
		return nil
	}
	return toProblem(p)
}

// toProblem converts a problem document that lego has read.
func toProblem(p *legoacme.ProblemDetails) *acme.Problem {
	problem := &acme.Problem{Type: p.Type, Detail: p.Detail, Status: p.HTTPStatus, Instance: p.Instance}
	for _, s := range p.SubProblems {
		problem.Subproblems = append(problem.Subproblems, acme.Subproblem{
			Type: s.Type, Detail: s.Detail, Identifier: acme.Identifier{Type: s.Identifier.Type, Value: s.Identifier.Value},
		})
	}
	return problem
}

func fromProblem(op string, p *acme.Problem, retryAt time.Time, err error) *acme.Error {
	e := &acme.Error{Kind: kindOf(p), Op: op, Type: p.Type, Detail: acme.Shorten(p.Text()), RetryAt: retryAt, Err: err, Public: true, Subproblems: p.Subproblems}
	if page := actionURL("", p.Instance, nil); page != "" && p.Type == acme.UserActionRequired {
		e.Detail = strings.TrimSuffix(e.Detail, ".") + "; open " + acme.Shorten(page)
	}
	if e.Detail == "" {
		e.Detail = fmt.Sprintf("the CA answered %d %s", p.Status, http.StatusText(p.Status))
	}
	return e
}

// kindOf returns the kind of a problem. The HTTP status decides first: a document
// with a 5xx status is not reliable, and a firewall's page has no problem type.
func kindOf(p *acme.Problem) acme.Kind {
	switch {
	case p.Status == http.StatusTooManyRequests, p.Type == acme.RateLimit:
		return acme.RateLimited
	case p.Status >= 500, p.Status >= 300 && p.Status < 400,
		p.Status == http.StatusRequestTimeout, p.Status == http.StatusTooEarly:
		return acme.Temporary
	case p.Type == acme.BadNonce, p.Type == acme.ServerInternal, (p.Type == "" || p.Type == "about:blank") && p.Status >= 400:
		return acme.Temporary
	}
	return acme.Permanent
}

// isProblem reports whether the CA answered with that problem type.
func isProblem(err error, problemType string) bool {
	p := problemOf(err)
	return p != nil && p.Type == problemType
}
