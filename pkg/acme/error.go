package acme

import (
	"strings"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/printable"
)

// Kind classifies a failed issuance by what can be done about it.
type Kind string

// The kinds of failure.
const (
	Temporary   Kind = "temporary"    // the CA, or the connection to it, fails; a later attempt may succeed
	Permanent   Kind = "permanent"    // something must change first: DNS, the names, the CSR
	RateLimited Kind = "rate limited" // the CA asks to wait until RetryAt
)

// Error describes why an issuance or a revocation failed. Its text may contain
// names: gateway mode must show it only to the client that asked. It may also name
// hosts, addresses and files of the administrator's network. Clients must get
// ForClient instead.
type Error struct {
	Kind       Kind
	Op         string    // what was being done, such as "finalize"; may be empty
	Type       string    // the CA's problem type, if it sent one
	Detail     string    // for people
	Identifier string    // the identifier that failed, if the failure is about one
	RetryAt    time.Time // earliest retry that the CA allows; zero if it did not say
	Err        error     // the cause; may be nil

	// Subproblems come from the CA, one for each identifier that failed.
	Subproblems []Subproblem

	// Ordered reports whether there was an order. Issuing functions set it.
	Ordered bool

	// Final reports whether the order can never be finished, regardless of Kind.
	Final bool

	// Told reports whether Detail already contains RetryAt or the source of it.
	Told bool

	// Public reports whether clients may read Detail although Err is set. It then
	// contains words of the CA or our own, and no cause.
	Public bool
}

// Hidden is the text that clients read instead of a cause that only the
// administrator may know.
const Hidden = "failed at the proxy, or between it and the CA; the proxy's log has the cause"

// Error returns the whole text, for the administrator.
func (e *Error) Error() string { return e.text(e.Detail) }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// ForClient returns the text for clients. It contains words of the CA and our own.
// It replaces any other cause, such as a failure of a DNS provider or a hook, which
// may name an internal endpoint or a file.
func (e *Error) ForClient() string {
	if e.Err == nil || e.Public {
		return e.text(e.Detail)
	}
	return e.text(Hidden)
}

func (e *Error) text(detail string) string {
	var b strings.Builder
	if op := strings.TrimSpace(e.Op + " " + e.Identifier); op != "" {
		b.WriteString(op + ": ")
	}
	b.WriteString(detail)
	if short := ShortType(e.Type); short != "" {
		b.WriteString(" (" + short + ")")
	}
	if !e.RetryAt.IsZero() && !e.Told {
		b.WriteString("; the CA asks to wait until " + printable.Time(e.RetryAt))
	}
	return b.String()
}
