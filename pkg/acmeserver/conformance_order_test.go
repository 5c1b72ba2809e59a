package acmeserver_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/rawacme"
	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
)

// C7, C11: RFC 8555, sections 7.1.3, 7.1.4 and 7.4, where the policy trusts the account.
func TestConformNewOrder(t *testing.T) {
	conform(t, nil, func(t *testing.T, w *world) {
		t.Run("as sent in lower case", func(t *testing.T) {
			o := w.register(t).order("B.example.com", "a.example.com", "b.example.com")
			want := []acme.Identifier{
				{Type: "dns", Value: "b.example.com"}, {Type: "dns", Value: "a.example.com"}, {Type: "dns", Value: "b.example.com"},
			}
			if o.Status != "ready" || !slices.Equal(o.Identifiers, want) || len(o.Authorizations) != 2 {
				t.Errorf("order is %+v", o)
			}
			if left := time.Until(o.Expires); left < 23*time.Hour || left > 25*time.Hour {
				t.Errorf("the order expires in %v", left)
			}
			if again := o.again(); again.Status != "ready" || !slices.Equal(again.Identifiers, want) {
				t.Errorf("order is %+v", again)
			}
		})
		t.Run("valid at once", func(t *testing.T) { // uacme, acmebot, AcmeSwift
			o := w.register(t).order("a.example.com", "*.example.com", "192.0.2.1", "example.com", "*.example.com")
			for n, want := range []authorization{
				{Identifier: acme.Identifier{Type: "dns", Value: "a.example.com"}},
				{Identifier: acme.Identifier{Type: "dns", Value: "example.com"}, Wildcard: true},
				{Identifier: acme.Identifier{Type: "ip", Value: "192.0.2.1"}},
				{Identifier: acme.Identifier{Type: "dns", Value: "example.com"}},
			} {
				a := o.authz(n)
				kind := map[bool]string{false: "http-01", true: "dns-01"}[want.Wildcard]
				if a.Status != "valid" || a.Identifier != want.Identifier || a.Wildcard != want.Wildcard ||
					len(a.Challenges) != 1 || a.Challenges[0].Status != "valid" || a.Challenges[0].Type != kind ||
					a.Challenges[0].Validated.IsZero() {
					t.Errorf("authorization is %+v", a)
				}
				a.validate(kind) // certbot asks all the same
			}
			o.issue(rawacme.NewKey())
		})
		t.Run("faults", func(t *testing.T) {
			c := w.register(t)
			id := func(kind, value string) fields {
				return fields{"identifiers": []fields{{"type": kind, "value": value}}}
			}
			for name, test := range map[string]struct {
				payload fields
				kind    string
				word    string
			}{
				"missing":         {fields{}, acme.Malformed, "identifiers"},
				"empty":           {fields{"identifiers": []any{}}, acme.Malformed, "identifiers"},
				"null":            {fields{"identifiers": nil}, acme.Malformed, "identifiers"},
				"no list":         {fields{"identifiers": "a.example.com"}, acme.Malformed, "identifiers"},
				"no object":       {fields{"identifiers": []string{"a.example.com"}}, acme.Malformed, "identifiers"},
				"type":            {id("email", "a@example.com"), acme.UnsupportedIdentifier, "dns"},
				"no type":         {id("", "a.example.com"), acme.UnsupportedIdentifier, "dns"},
				"empty value":     {id("dns", ""), acme.RejectedIdentifier, "name"},
				"an address":      {id("dns", "192.0.2.1"), acme.RejectedIdentifier, "type ip"}, // acme.sh sent these
				"no address":      {id("ip", "a.example.com"), acme.RejectedIdentifier, "type dns"},
				"one label":       {id("dns", "localhost"), acme.RejectedIdentifier, "localhost"},
				"trailing dot":    {id("dns", "a.example.com."), acme.RejectedIdentifier, "a.example.com"},
				"spaces":          {id("dns", " a.example.com"), acme.RejectedIdentifier, "a.example.com"},
				"inner wildcard":  {id("dns", "a.*.example.com"), acme.RejectedIdentifier, "a.*.example.com"},
				"two wildcards":   {id("dns", "*.*.example.com"), acme.RejectedIdentifier, "*.*.example.com"},
				"unicode":         {id("dns", "bücher.example"), acme.RejectedIdentifier, "xn--bcher-kva.example"},
				"terminal":        {id("dns", "\x1b[31m.example.com"), acme.RejectedIdentifier, "example.com"},
				"zero":            {id("dns", "a\x00.example.com"), acme.RejectedIdentifier, "example.com"},
				"long":            {id("dns", strings.Repeat("a.", 500)+"com"), acme.RejectedIdentifier, "long"},
				"address spelled": {id("ip", "2001:0db8::1"), acme.RejectedIdentifier, "2001:db8::1"},
				"too many":        {orderOf(slices.Repeat([]string{"a.example.com"}, 101)...), acme.Malformed, "100"},
				"dates":           {fields{"notBefore": "2031-01-01T00:00:00Z"}, acme.Malformed, "notBefore"},
				"profile":         {fields{"profile": "short"}, acme.InvalidProfile, "short"},
				"replaces":        {fields{"replaces": "x"}, acme.Malformed, "replaces"},
			} {
				t.Run(name, func(t *testing.T) {
					payload := test.payload
					if _, ok := payload["identifiers"]; !ok && name != "missing" {
						payload["identifiers"] = orderOf("a.example.com")["identifiers"]
					}
					r := c.in(t).post(w.dir.NewOrder, payload)
					r.refused(http.StatusBadRequest, test.kind, test.word)
					if strings.ContainsAny(string(r.body), "\x1b\x00") || len(r.body) > 4000 {
						t.Errorf("body is %q", r.body)
					}
				})
			}
		})
		t.Run("unknown", func(t *testing.T) {
			c := w.register(t)
			o := c.order("a.example.com")
			for _, url := range []string{
				w.url + "/order/0", w.url + "/order/%00", w.url + "/authorization/0/0", o.url + "x", o.Authorizations[0] + "1",
				w.url + "/challenge/0/0/http-01", strings.Replace(o.authz(0).Challenges[0].URL, "http-01", "dns-01", 1),
				w.url + "/certificate/0", w.url + "/order/" + strings.Repeat("0", 5000),
			} {
				c.get(url).refused(http.StatusNotFound, acme.Malformed)
			}
		})
	})
}

// C9: orders, authorizations, challenges and certificates belong to their account.
func TestConformOwners(t *testing.T) {
	conform(t, nil, func(t *testing.T, w *world) {
		c, thief := w.register(t), w.register(t)
		o := c.order("a.example.com")
		done := c.order("a.example.com").issue(rawacme.NewKey())
		challenge := o.authz(0).Challenges[0].URL
		for _, url := range []string{o.url, o.Authorizations[0], challenge, done.Certificate, done.Certificate + "/1"} {
			thief.get(url).refused(http.StatusForbidden, acme.Unauthorized, "another account")
		}
		thief.post(o.Authorizations[0], fields{"status": "deactivated"}).refused(http.StatusForbidden, acme.Unauthorized)
		thief.post(challenge, fields{}).refused(http.StatusForbidden, acme.Unauthorized)
		thief.post(o.Finalize, fields{"csr": rawacme.B64(o.csr(rawacme.NewKey()))}).
			refused(http.StatusForbidden, acme.Unauthorized)
		o.issue(rawacme.NewKey())
	})
}

// C7: RFC 8738.
func TestConformAddresses(t *testing.T) {
	conform(t, nil, func(t *testing.T, w *world) {
		c := w.register(t)
		o := c.order("192.0.2.1", "2001:DB8::1", "a.example.com").issue(rawacme.NewKey())
		chain, _ := c.download(o.Certificate)
		if leaf := chain[0]; len(leaf.IPAddresses) != 2 || len(leaf.DNSNames) != 1 {
			t.Errorf("the certificate has %v and %v", leaf.IPAddresses, leaf.DNSNames)
		}
	})
}

// C16: notBefore and notAfter.
func TestConformDates(t *testing.T) {
	conform(t, func(c *acmeserver.Config) { c.Dates = true }, func(t *testing.T, w *world) {
		c := w.register(t)
		before, after := time.Now().Add(-time.Minute).UTC(), time.Now().Add(48*time.Hour).UTC()
		payload := orderOf("a.example.com")
		payload["notBefore"], payload["notAfter"] = before.Format(time.RFC3339), after.Format(time.RFC3339Nano)
		o := c.orderWith(payload)
		before, after = before.Truncate(time.Second), after.Truncate(time.Second)
		if !o.NotBefore.Equal(before) || !o.NotAfter.Equal(after) {
			t.Errorf("dates are %v and %v", o.NotBefore, o.NotAfter)
		}
		chain, _ := c.download(o.issue(rawacme.NewKey()).Certificate)
		if leaf := chain[0]; !leaf.NotBefore.Equal(before) || !leaf.NotAfter.Equal(after) {
			t.Errorf("dates of the certificate are %v and %v", leaf.NotBefore, leaf.NotAfter)
		}
		for _, dates := range []fields{
			{"notBefore": "tomorrow"},
			{"notAfter": "2001-01-01T00:00:00Z"},
			{"notAfter": 7},
			{"notBefore": after.Format(time.RFC3339), "notAfter": before.Format(time.RFC3339)},
		} {
			c.post(w.dir.NewOrder, rawacme.Changed(orderOf("a.example.com"), dates)).
				refused(http.StatusBadRequest, acme.Malformed, "not")
		}
	})
}

// C7: profiles.
func TestConformProfiles(t *testing.T) {
	conform(t, func(c *acmeserver.Config) {
		c.Profiles = map[string]string{"short": "six days"}
	}, func(t *testing.T, w *world) {
		c := w.register(t)
		w.ca.does(func(_ context.Context, r acmeserver.IssueRequest) (acmeserver.Issued, error) {
			if r.Order.Profile != "short" {
				return acmeserver.Issued{}, &acme.Problem{Type: acme.InvalidProfile, Detail: "profile " + r.Order.Profile}
			}
			return w.ca.sign(r)
		})
		payload := rawacme.Changed(orderOf("a.example.com"), fields{"profile": "short"})
		if o := c.orderWith(payload).issue(rawacme.NewKey()); o.Profile != "short" {
			t.Errorf("order is %+v", o)
		}
		payload["profile"] = "long"
		c.post(w.dir.NewOrder, payload).refused(http.StatusBadRequest, acme.InvalidProfile, "long", "short")
	})
}

// C7, C16: while the profiles are not known yet, the client should come again. After
// invalidProfile, it would order without one.
func TestConformProfilesNotKnownYet(t *testing.T) {
	conform(t, func(c *acmeserver.Config) {
		c.Meta = func(context.Context) acmeserver.Meta { return acmeserver.Meta{RetryAfter: 15 * time.Second} }
	}, func(t *testing.T, w *world) {
		c := w.register(t)
		payload := rawacme.Changed(orderOf("a.example.com"), fields{"profile": "short"})
		w.outage.Store(true)
		refusal := c.post(w.dir.NewOrder, payload)
		w.outage.Store(false)
		refusal.refused(http.StatusServiceUnavailable, acme.ServerInternal, "profile", "try again later")
		if after := refusal.header.Get("Retry-After"); after != "15" {
			t.Errorf("Retry-After is %q", after)
		}
		c.orderWith(orderOf("a.example.com")).issue(rawacme.NewKey())
	})
}

// limits is a policy that refuses some names.
type limits struct{ acmeserver.Trusting }

func (limits) Order(_ context.Context, r acmeserver.OrderRequest) (acmeserver.Terms, error) {
	p := &acme.Problem{Type: acme.RejectedIdentifier, Detail: "denied.example.com: no grant covers it"}
	switch r.Identifiers[0].Value {
	case "denied.example.com":
		p.Subproblems = []acme.Subproblem{{Type: p.Type, Detail: "no grant covers it", Identifier: r.Identifiers[0]}}
		return acmeserver.Terms{}, p
	case "soon.example.com":
		p = &acme.Problem{Type: acme.RateLimit, Detail: "too many orders"}
		return acmeserver.Terms{}, &acmeserver.Refusal{Problem: p, RetryAfter: 2500 * time.Millisecond}
	}
	return acmeserver.Terms{Lifetime: time.Hour}, nil
}

// C19: RFC 8555, section 6.6, and what the policy says.
func TestConformLimits(t *testing.T) {
	conform(t, func(c *acmeserver.Config) {
		c.Policy, c.Limits.Orders, c.Limits.Accounts = limits{}, 3, 2
	}, func(t *testing.T, w *world) {
		c := w.register(t)
		p := c.post(w.dir.NewOrder, orderOf("denied.example.com")).
			refused(http.StatusBadRequest, acme.RejectedIdentifier, "denied.example.com", "grant")
		if len(p.Subproblems) != 1 {
			t.Errorf("problem is %+v", p)
		}
		r := c.post(w.dir.NewOrder, orderOf("soon.example.com"))
		r.refused(http.StatusTooManyRequests, acme.RateLimit)
		if after := r.header.Get("Retry-After"); after != "3" {
			t.Errorf("Retry-After is %q", after)
		}
		o := c.order("a.example.com")
		if left := time.Until(o.Expires); left > time.Hour {
			t.Errorf("the order expires in %v", left)
		}
		c.order("a.example.com")
		c.order("a.example.com")
		// Not 429, for which clients wait silently.
		c.post(w.dir.NewOrder, orderOf("a.example.com")).refused(http.StatusForbidden, acme.RateLimit, "3")
		o.issue(rawacme.NewKey())
		c.order("a.example.com")
		w.clock.Add(int64(time.Hour))
		c.order("a.example.com") // the others expired

		w.register(t)
		w.client(t).post(w.dir.NewAccount, fields{}).refused(http.StatusForbidden, acme.RateLimit, "2")
		c.post(c.kid, fields{"status": "deactivated"}).want(http.StatusOK)
		w.client(t).post(w.dir.NewAccount, fields{}).refused(http.StatusForbidden, acme.RateLimit, "2")
	})
}
