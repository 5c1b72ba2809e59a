package acmeserver

import (
	"cmp"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/printable"
)

// Refusal is a problem for the client with a time after which to retry. Policy and
// Accounts may return it instead of an *acme.Problem.
type Refusal struct {
	Problem *acme.Problem
	// RetryAfter is sent in full seconds. 0: nothing is sent. Many clients wait for it
	// silently, so it should be short. For a long wait, write the time into Detail.
	RetryAfter time.Duration

	header http.Header // further headers
	note   []any       // attributes for the log
}

// Error returns the text of the problem.
func (r *Refusal) Error() string {
	if r.Problem == nil {
		return "refused without a problem"
	}
	return r.Problem.Error()
}

// Unwrap returns the problem.
func (r *Refusal) Unwrap() error { return r.Problem }

// problem returns a problem document. If status is 0, it is that of the type.
func problem(kind string, status int, detail string) *acme.Problem {
	return &acme.Problem{Type: kind, Status: status, Detail: detail}
}

// notFound returns the problem of a resource that does not exist.
func notFound(what string) *acme.Problem {
	return problem(acme.Malformed, http.StatusNotFound, what+": it does not exist")
}

// noDirectory returns the problem of an entrance that does not exist. It does not say
// whether it ever did.
func noDirectory() *acme.Problem {
	return problem(acme.Malformed, http.StatusNotFound,
		"directory: it is unknown, or no longer valid; check the URL, or ask the server's administrator for another one")
}

func internalProblem() *acme.Problem {
	return problem(acme.ServerInternal, 0, "internal error; the server's log has the cause")
}

// decode reads the payload of a request into v. An error is a problem.
func decode(payload []byte, v any) error {
	err := json.Unmarshal(payload, v)
	var kind *json.UnmarshalTypeError
	switch {
	case err == nil:
		return nil
	case len(payload) == 0:
		return problem(acme.Malformed, 0, "payload: it is empty; send a JSON object")
	case errors.As(err, &kind) && kind.Field != "":
		return problem(acme.Malformed, 0, cut(kind.Field, 100)+": it must not be of the type "+kind.Value)
	}
	return problem(acme.Malformed, 0, "payload: it is not a JSON object of the expected form")
}

// statuses has the status codes of problems other than 400.
var statuses = map[string]int{
	acme.AlreadyReplaced:       http.StatusConflict, // RFC 9773, section 5
	acme.ExternalAccountNeeded: http.StatusForbidden,
	acme.OrderNotReady:         http.StatusForbidden, // RFC 8555, section 7.4
	acme.RateLimit:             http.StatusTooManyRequests,
	acme.ServerInternal:        http.StatusInternalServerError,
	acme.Unauthorized:          http.StatusForbidden,
	acme.UserActionRequired:    http.StatusForbidden, // RFC 8555, section 7.3.3
}

// fail answers with a problem. If err is neither a *Refusal nor an *acme.Problem, it
// goes to the log, and the client gets no details.
func (s *Server) fail(w http.ResponseWriter, req *http.Request, err error) {
	var refusal *Refusal
	var p *acme.Problem
	switch {
	case errors.As(err, &refusal) && refusal.Problem != nil:
		p = refusal.Problem
		if refusal.RetryAfter > 0 {
			w.Header().Set("Retry-After", seconds(refusal.RetryAfter))
		}
		for name, values := range refusal.header {
			w.Header()[name] = append(w.Header()[name], values...)
		}
		if x, ok := w.(*exchange); ok {
			x.note = append(x.note, refusal.note...)
		}
	case errors.As(err, &p) && p != nil:
	case req.Context().Err() != nil:
		p = problem(acme.ServerInternal, http.StatusServiceUnavailable, "the request was cancelled")
	default:
		s.cfg.Logger.Error("request failed", "route", s.route(req), "error", err)
		p = internalProblem()
	}
	s.writeProblem(w, p)
}

// seconds returns a duration as the value of Retry-After. Some clients cannot read a
// date there.
func seconds(d time.Duration) string {
	return strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10)
}

func (s *Server) writeProblem(w http.ResponseWriter, p *acme.Problem) {
	p = harmless(p)
	if x, ok := w.(*exchange); ok {
		x.problem = acme.ShortType(p.Type)
	}
	w.Header().Set("Content-Type", "application/problem+json")
	writeBody(w, p.Status, encode(p))
}

// harmless returns a copy of p with a status, whose texts are harmless on the client's
// terminal. Some of them come from an upstream CA.
func harmless(p *acme.Problem) *acme.Problem {
	c := *p
	c.Type = printable.Line(cmp.Or(p.Type, acme.ServerInternal))
	if c.Status < 400 || c.Status > 599 {
		c.Status = cmp.Or(statuses[c.Type], http.StatusBadRequest)
	}
	c.Title, c.Detail, c.Instance = printable.Line(p.Title), printable.Line(p.Detail), printable.Line(p.Instance)
	if p.Identifier != nil {
		id := harmlessIdentifier(*p.Identifier)
		c.Identifier = &id
	}
	c.Subproblems = slices.Clone(p.Subproblems)
	for i := range c.Subproblems {
		sub := &c.Subproblems[i]
		sub.Type, sub.Detail = printable.Line(sub.Type), printable.Line(sub.Detail)
		sub.Identifier = harmlessIdentifier(sub.Identifier)
	}
	return &c
}

func harmlessIdentifier(id acme.Identifier) acme.Identifier {
	return acme.Identifier{Type: printable.Line(id.Type), Value: printable.Line(id.Value)}
}
