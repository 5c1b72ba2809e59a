package acmeserver_test

import (
	"errors"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
)

// C5, X4: a problem keeps its type, details and identifiers, and becomes harmless on a
// terminal. Its own status counts if it is one of a failure.
func TestProblemAnswer(t *testing.T) {
	t.Parallel()
	var allow error
	c := newRaw(t, newServer(t, func(c *acmeserver.Config) {
		c.Accounts = &rules{allow: func(acmeserver.Account, netip.Addr) error { return allow }}
	}))
	c.register(nil).want(http.StatusCreated)
	id := acme.Identifier{Type: "dns", Value: "a.example\x1b"}
	given := &acme.Problem{
		Type: acme.RejectedIdentifier, Detail: "no\x1b[2J", Identifier: &id,
		Subproblems: []acme.Subproblem{{Type: acme.DNS, Detail: "n\no", Identifier: id}},
	}
	allow = given
	p := c.post(c.kid, nil).refused(acme.RejectedIdentifier, http.StatusBadRequest)
	if p.Detail != `no\u001b[2J` || p.Identifier.Value != `a.example\u001b` ||
		p.Subproblems[0].Detail != `n\no` || p.Subproblems[0].Identifier.Value != `a.example\u001b` {
		t.Errorf("%+v", p)
	}
	if given.Status != 0 || id.Value != "a.example\x1b" || given.Subproblems[0].Detail != "n\no" {
		t.Errorf("the caller's problem changed: %+v", given)
	}
	for kind, status := range map[string]int{
		acme.Malformed: 400, acme.BadCSR: 400, acme.AlreadyRevoked: 400, acme.AccountDoesNotExist: 400,
		acme.Unauthorized: 403, acme.OrderNotReady: 403, acme.UserActionRequired: 403, acme.ExternalAccountNeeded: 403,
		acme.AlreadyReplaced: 409, acme.RateLimit: 429, acme.ServerInternal: 500, "urn:example:mine": 400,
	} {
		for given, want := range map[int]int{
			0: status, 200: status, 99: status, 1000: status, -1: status, 404: 404, 503: 503,
		} {
			allow = &acme.Problem{Type: kind, Status: given, Detail: "no"}
			c.post(c.kid, nil).refused(kind, want)
		}
	}
	allow = &acme.Problem{Detail: "no"}
	c.post(c.kid, nil).refused(acme.ServerInternal, http.StatusInternalServerError)
}

// X5: Retry-After is in full seconds, at least one.
func TestRetryAfter(t *testing.T) {
	t.Parallel()
	var allow error
	c := newRaw(t, newServer(t, func(c *acmeserver.Config) {
		c.Accounts = &rules{allow: func(acmeserver.Account, netip.Addr) error { return allow }}
	}))
	c.register(nil).want(http.StatusCreated)
	for after, want := range map[time.Duration]string{
		0: "", time.Millisecond: "1", time.Second: "1", 1500 * time.Millisecond: "2", 5 * time.Minute: "300",
	} {
		allow = errors.Join(&acmeserver.Refusal{
			Problem: &acme.Problem{Type: acme.RateLimit, Detail: "wait"}, RetryAfter: after,
		})
		r := c.post(c.kid, nil)
		r.refused(acme.RateLimit, http.StatusTooManyRequests)
		if got := r.header.Get("Retry-After"); got != want {
			t.Errorf("%v: Retry-After is %q", after, got)
		}
	}
	allow = &acmeserver.Refusal{}
	c.post(c.kid, nil).refused(acme.ServerInternal, http.StatusInternalServerError)
}
