package acme

import (
	"strings"
	"time"
)

// Kind says what can be done about a failed issuance.
type Kind string

// The kinds of failure.
const (
	Temporary   Kind = "temporary"    // the CA, or the connection to it, fails: try again later
	Permanent   Kind = "permanent"    // something must change first: DNS, the names, the CSR
	RateLimited Kind = "rate limited" // the CA asks to wait until RetryAt
)

// Error is the reason why an issuance or a revocation failed. Its text may
// contain names: gateway mode must show it to the client that asked and to no
// other. It may also name hosts, addresses and files of the administrator's
// network: clients read ForClient instead.
type Error struct {
	Kind       Kind
	Op         string    // what was being done, such as "finalize"; may be empty
	Type       string    // the CA's problem type, if it sent one
	Detail     string    // for people
	Identifier string    // the identifier that failed, if it is one
	RetryAt    time.Time // do not retry before; zero if the CA did not say
	Err        error     // the cause, may be nil

	// Subproblems are the CA's, one for each identifier that failed.
	Subproblems []Subproblem

	// Ordered reports whether there was an order. Issuing functions set it.
	Ordered bool

	// Final reports that the order can never be finished, whatever the kind.
	Final bool

	// Told reports whether Detail contains RetryAt already, or who asks for it.
	Told bool

	// Public reports that clients may read Detail although Err is set: it
	// contains words of the CA or our own, and no cause.
	Public bool
}

// Hidden replaces, for clients, a cause that only the administrator
// may know.
const Hidden = "failed at the proxy, or between it and the CA; the proxy's log has the cause"

// Error returns the whole text, for the administrator.
func (e *Error) Error() string { return e.text(e.Detail) }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// ForClient returns the text without what only the administrator may know. Words
// of the CA and our own stay. The cause of anything else, such as an exchange
// with a DNS provider or a hook, may name an internal endpoint or a file.
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
		b.WriteString("; the CA asks to wait until " + e.RetryAt.UTC().Format(time.RFC3339))
	}
	return b.String()
}
