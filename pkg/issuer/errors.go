package issuer

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/go-acme/lego/v4/acme"
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
// show it to the client that asked and to nobody else.
type Error struct {
	Kind       Kind
	Op         string    // what was being done, such as "finalize"; may be empty
	Type       string    // the CA's problem type (urn:ietf:params:acme:error:…), if it sent one
	Detail     string    // for people
	Identifier string    // the identifier that failed, if it is one
	RetryAt    time.Time // not before; zero if the CA did not say
	Err        error     // the cause, may be nil
}

func (e *Error) Error() string {
	var b strings.Builder
	if op := strings.TrimSpace(e.Op + " " + e.Identifier); op != "" {
		b.WriteString(op + ": ")
	}
	b.WriteString(e.Detail)
	if short := strings.TrimPrefix(e.Type, "urn:ietf:params:acme:error:"); short != "" {
		b.WriteString(" (" + short + ")")
	}
	if !e.RetryAt.IsZero() {
		b.WriteString("; the CA asks to wait until " + e.RetryAt.UTC().Format(time.RFC3339))
	}
	return b.String()
}

func (e *Error) Unwrap() error { return e.Err }

func permanent(op, format string, args ...any) *Error {
	return &Error{Kind: Permanent, Op: op, Detail: fmt.Sprintf(format, args...)}
}

const acmeNS = "urn:ietf:params:acme:error:"

// classify turns what lego and net/http return into an *Error. retryAt is the
// Retry-After of the answer, zero if there was none.
func classify(op string, err error, retryAt time.Time) error {
	var done *Error
	if errors.As(err, &done) {
		return err
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return &Error{Kind: Temporary, Op: op, Detail: "stopped before the CA was done", RetryAt: retryAt, Err: err}
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

// problemOf finds the CA's problem document in an error of lego's.
func problemOf(err error) *acme.ProblemDetails {
	var limited *acme.RateLimitedError
	if errors.As(err, &limited) {
		return limited.ProblemDetails
	}
	var nonce *acme.NonceError
	if errors.As(err, &nonce) {
		return nonce.ProblemDetails
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

func kindOf(p *acme.ProblemDetails) Kind {
	switch {
	case p.Type == acmeNS+"rateLimited", p.HTTPStatus == http.StatusTooManyRequests:
		return RateLimited
	case p.HTTPStatus >= 500, p.Type == acmeNS+"badNonce", p.Type == acmeNS+"serverInternal":
		return Temporary
	}
	return Permanent
}

// isProblem tells whether the CA answered with that problem type.
func isProblem(err error, short string) bool {
	p := problemOf(err)
	return p != nil && p.Type == acmeNS+short
}
