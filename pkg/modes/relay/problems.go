package relay

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
	"github.com/acmeproxy/acmeproxy/pkg/audit"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/policy"
	"github.com/acmeproxy/acmeproxy/pkg/printable"
)

// soon is the longest wait that a client is asked for by 429 and Retry-After. Many wait
// silently, and some resend their request at once.
const soon = 2 * time.Minute

// refusal converts an error of audit.Authorize to the client's answer.
func (r *Relay) refusal(err error, names cert.Names) error {
	var denied *policy.Denied
	var quota *audit.QuotaExceeded
	var pace *audit.TooSoon
	switch {
	case errors.As(err, &denied):
		return deniedProblem(denied, names)
	case errors.As(err, &quota):
		return r.wait(quota.Error(), quota.RetryAt)
	case errors.As(err, &pace):
		return r.wait(pace.Error(), pace.RetryAt)
	}
	return err
}

// wait asks the client to wait. detail has the time.
func (r *Relay) wait(detail string, until time.Time) error {
	p := &acme.Problem{Type: acme.RateLimit, Status: http.StatusForbidden, Detail: detail}
	left := until.Sub(r.cfg.Now())
	if left > soon {
		return p
	}
	p.Status = http.StatusTooManyRequests
	return &acmeserver.Refusal{Problem: p, RetryAfter: max(left, time.Second)}
}

// deniedProblem returns the problem for a denial, with a subproblem for each name that is
// not granted.
func deniedProblem(d *policy.Denied, names cert.Names) *acme.Problem {
	p := &acme.Problem{Type: acme.Unauthorized, Status: http.StatusForbidden, Detail: d.Reason}
	switch d.Field {
	case "names":
		p.Type, p.Status = acme.RejectedIdentifier, http.StatusForbidden
		about := d.Ungranted
		if len(about) == 0 && len(names) == 1 {
			about = names
		}
		for _, name := range about {
			p.Subproblems = append(p.Subproblems, acme.Subproblem{
				Type: acme.RejectedIdentifier, Identifier: identifier(name), Detail: "not granted to this client",
			})
		}
	case "profile":
		p.Type, p.Status = acme.InvalidProfile, http.StatusForbidden
	case "key_type":
		p.Type, p.Status = acme.BadCSR, http.StatusForbidden
	}
	return p
}

// passed lists the types of the CA's problems that are about the client's order. All
// others are about the proxy's account at the CA, and would mislead the client: it would
// delete its own account, or send the request again at once.
var passed = []string{
	acme.BadCSR, "urn:ietf:params:acme:error:caa", acme.Compound, acme.Connection, acme.DNS, acme.IncorrectResponse,
	acme.InvalidProfile, acme.Malformed, acme.RateLimit, acme.RejectedIdentifier, acme.TLS, acme.Unauthorized, acme.UnsupportedIdentifier,
}

// caProblem returns the problem of a failed order or revocation for the client. It keeps
// the CA's type, detail and identifiers.
func caProblem(e *acme.Error) *acme.Problem {
	p := &acme.Problem{Type: e.Type, Detail: e.Detail, Subproblems: e.Subproblems}
	if e.Err != nil && !e.Public {
		p.Detail = acme.Hidden
	}
	if !slices.Contains(passed, e.Type) {
		p.Type, p.Subproblems = acme.ServerInternal, nil
		if short := acme.ShortType(e.Type); short != "" {
			p.Detail += " (" + short + ")"
		}
	}
	if e.Identifier != "" {
		id := identifier(e.Identifier)
		p.Identifier = &id
		if !strings.Contains(p.Detail, e.Identifier) {
			p.Detail = e.Identifier + ": " + p.Detail
		}
	}
	if p.Type != e.Type {
		p.Detail = strings.TrimSpace(e.Op+" at the CA: ") + " " + p.Detail
	}
	if !e.RetryAt.IsZero() && !e.Told {
		p.Detail = fmt.Sprintf("%s; the CA asks to wait until %s", strings.TrimSuffix(p.Detail, "."), printable.Time(e.RetryAt))
	}
	return p
}
