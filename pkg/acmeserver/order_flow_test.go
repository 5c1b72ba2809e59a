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

// challenged makes challenges necessary, which are validated by v.
func challenged(v acmeserver.ValidatorFunc) func(*acmeserver.Config) {
	return func(c *acmeserver.Config) {
		c.Policy = nil
		c.Validators = map[string]acmeserver.Validator{acme.HTTP01: v, acme.DNS01: v}
	}
}

func TestOrderStates(t *testing.T) { // C7, C8, C10, C17
	var seen []acmeserver.Validation
	validator := func(_ context.Context, v acmeserver.Validation) error {
		seen = append(seen, v)
		return nil
	}
	inLab(t, challenged(validator), func(l *lab) {
		s := l.start()
		c := l.account(s)
		o := c.newOrder("A.example.com", "b.example.com", "a.example.com").is(l, acmeserver.StatusPending)
		if got := []string{o.Identifiers[0].Value, o.Identifiers[1].Value, o.Identifiers[2].Value}; !slices.Equal(got,
			[]string{"a.example.com", "b.example.com", "a.example.com"}) || len(o.Authorizations) != 2 {
			l.Errorf("identifiers %v, authorizations %v", got, o.Authorizations)
		}
		key := rawacme.NewKey()
		c.finalize(o, key).refused(acme.OrderNotReady, http.StatusForbidden)
		for i, url := range o.Authorizations {
			a := c.authorization(url)
			if a.Status != acmeserver.StatusPending || len(a.Challenges) != 2 {
				l.Fatalf("authorization %+v", a)
			}
			r := c.send(a.Challenges[0].URL, rawacme.Fields{}).want(http.StatusOK)
			if links := r.Header().Values("Link"); !slices.Contains(links, "<"+url+`>;rel="up"`) {
				l.Errorf("Link %q of a challenge", links)
			}
			var ch challengeDoc
			if r.into(&ch); ch.Status != acmeserver.StatusProcessing {
				l.Errorf("challenge %+v", ch)
			}
			l.wait(100 * time.Millisecond)
			if a := c.authorization(url); a.Status != acmeserver.StatusValid || a.Challenges[0].Validated.IsZero() {
				l.Errorf("after its validation: %+v", a)
			}
			c.read(o).is(l, []acmeserver.Status{acmeserver.StatusPending, acmeserver.StatusReady}[i])
		}
		v := seen[0]
		if want := v.Token + "." + rawacme.Thumbprint(c.key.Public()); len(seen) != 2 || v.KeyAuthorization != want ||
			v.Identifier.Value != "a.example.com" || v.Addr.String() != "192.0.2.7" || v.AccountID == "" || v.Type != acme.DNS01 {
			l.Errorf("validations %+v", seen)
		}
		done := c.finalize(o, key).want(http.StatusOK).order().is(l, acmeserver.StatusValid)
		if got := c.read(o).is(l, acmeserver.StatusValid); got.Certificate != done.Certificate || got.URL != o.URL {
			l.Errorf("order %+v, finalize returned %+v", got, done)
		}
		if leaf := c.download(done); !slices.Equal(leaf.DNSNames, []string{"a.example.com", "b.example.com"}) {
			l.Errorf("names %v", leaf.DNSNames)
		}
	})
}

func TestAuthorizationsThatAreValidAtOnce(t *testing.T) { // C11
	inLab(t, nil, func(l *lab) {
		c := l.account(l.start())
		o := c.newOrder("example.com", "*.example.com").is(l, acmeserver.StatusReady)
		for i, want := range []string{acme.HTTP01, acme.DNS01} {
			a := c.authorization(o.Authorizations[i])
			if a.Status != acmeserver.StatusValid || a.Identifier.Value != "example.com" || a.Wildcard != (i == 1) ||
				len(a.Challenges) != 1 || a.Challenges[0].Type != want || len(a.Challenges[0].Token) != 43 ||
				a.Challenges[0].Status != acmeserver.StatusValid {
				l.Errorf("authorization %+v", a)
			}
			c.send(a.Challenges[0].URL, rawacme.Fields{}).want(http.StatusOK)
		}
		c.finalize(o, rawacme.NewKey()).want(http.StatusOK).order().is(l, acmeserver.StatusValid)
	})
}

func TestRefusedOrders(t *testing.T) {
	ip := func(values ...string) (ids []acme.Identifier) {
		for _, v := range values {
			ids = append(ids, acme.Identifier{Type: acme.TypeIP, Value: v})
		}
		return ids
	}
	many := slices.Repeat(dns("a.example.com"), 101)
	tests := []struct {
		name, kind string
		payload    rawacme.Fields
		says       string
	}{
		{"no identifier", acme.Malformed, rawacme.Fields{}, "at least one"},
		{"too many", acme.Malformed, rawacme.Fields{"identifiers": many}, "at most 100"},
		{"type", acme.UnsupportedIdentifier, rawacme.Fields{"identifiers": []acme.Identifier{{Type: "email", Value: "a@example.com"}}}, "use dns or ip"},
		{"address as name", acme.RejectedIdentifier, rawacme.Fields{"identifiers": dns("192.0.2.1")}, "use the type ip"},
		{"name as address", acme.RejectedIdentifier, rawacme.Fields{"identifiers": ip("a.example.com")}, "use the type dns"},
		{"long address", acme.RejectedIdentifier, rawacme.Fields{"identifiers": ip("2001:db8:0:0::1")}, "write 2001:db8::1"},
		{"full stop", acme.RejectedIdentifier, rawacme.Fields{"identifiers": dns("a.example.com.")}, "write a.example.com"},
		{"no IDNA", acme.RejectedIdentifier, rawacme.Fields{"identifiers": dns("bücher.example")}, "write xn--bcher-kva.example"},
		{"Kelvin", acme.RejectedIdentifier, rawacme.Fields{"identifiers": dns("\u212A.example.com")}, "write k.example.com"},
		{"one label", acme.RejectedIdentifier, rawacme.Fields{"identifiers": dns("localhost")}, "one label"},
		{"profile", acme.InvalidProfile, rawacme.Fields{"identifiers": dns("a.example.com"), "profile": "fast"}, "use one of classic"},
		{"dates", acme.Malformed, rawacme.Fields{"identifiers": dns("a.example.com"), "notAfter": "2030-01-01T00:00:00Z"}, "leave them out"},
		{"replaces", acme.Malformed, rawacme.Fields{"identifiers": dns("a.example.com"), "replaces": "abc"}, "no identifier"},
	}
	inLab(t, func(c *acmeserver.Config) { c.Profiles = map[string]string{"classic": ""} }, func(l *lab) {
		c := l.account(l.start())
		for _, tt := range tests {
			p := c.send(l.cfg.URL+"/new-order", tt.payload).refused(tt.kind, http.StatusBadRequest)
			if !strings.Contains(p.Detail, tt.says) {
				l.Errorf("%s: detail %q, want %q", tt.name, p.Detail, tt.says)
			}
		}
		p := c.send(l.cfg.URL+"/new-order", rawacme.Fields{"identifiers": dns("localhost", "a.example.com", "a_b.example.com")}).
			refused(acme.RejectedIdentifier, http.StatusBadRequest)
		if len(p.Subproblems) != 2 || p.Subproblems[1].Identifier.Value != "a_b.example.com" || p.Identifier != nil {
			l.Errorf("problem %+v, want a subproblem for each refused identifier", p)
		}
		o := c.send(l.cfg.URL+"/new-order", rawacme.Fields{"identifiers": ip("2001:DB8::1"), "profile": "classic"}).
			want(http.StatusCreated).order()
		if o.Identifiers[0].Value != "2001:db8::1" || o.Profile != "classic" {
			l.Errorf("order %+v", o)
		}
	})
}

func TestOrderDates(t *testing.T) { // C16
	inLab(t, func(c *acmeserver.Config) { c.Dates = true }, func(l *lab) {
		c := l.account(l.start())
		order := func(before, after string) *labReply {
			return c.send(l.cfg.URL+"/new-order", rawacme.Fields{
				"identifiers": dns("a.example.com"), "notBefore": before, "notAfter": after,
			})
		}
		for _, tt := range [][2]string{
			{"tomorrow", ""}, {"", "2000-01-01"}, {"2001-01-01T00:00:00Z", "2001-01-01T00:00:00Z"}, {"", "1999-01-01T00:00:00Z"},
		} {
			order(tt[0], tt[1]).refused(acme.Malformed, http.StatusBadRequest)
		}
		o := order("2001-01-01T00:00:00+01:00", "2002-01-01T00:00:00Z").want(http.StatusCreated).order()
		if !o.NotBefore.Equal(time.Date(2000, 12, 31, 23, 0, 0, 0, time.UTC)) || o.NotAfter.Year() != 2002 {
			l.Errorf("dates %v to %v", o.NotBefore, o.NotAfter)
		}
		// The scripted CA ignores the dates. A leaf that is valid for too long is not accepted.
		o = order("", time.Now().Add(time.Hour).Format(time.RFC3339)).want(http.StatusCreated).order()
		c.finalize(o, rawacme.NewKey()).want(http.StatusOK).order().is(l, acmeserver.StatusProcessing)
		l.wait(time.Minute)
		if got := c.read(o).is(l, acmeserver.StatusInvalid); got.Error.Type != acme.ServerInternal {
			l.Errorf("order %+v", got)
		}
	})
}

func TestReplaces(t *testing.T) { // RFC 9773, section 5
	inLab(t, nil, func(l *lab) {
		c := l.account(l.start())
		leaf := c.download(c.finalize(c.newOrder("a.example.com"), rawacme.NewKey()).want(http.StatusOK).order())
		id, err := acme.CertID(leaf)
		if err != nil {
			l.Fatal(err)
		}
		replace := func(c *caller, id string, names ...string) *labReply {
			return c.send(l.cfg.URL+"/new-order", rawacme.Fields{"identifiers": dns(names...), "replaces": id})
		}
		other := l.account(c.at)
		for what, got := range map[string]*labReply{ // most clients do not order again without the field
			"an unknown one": replace(c, "AAAA.AAAA", "a.example.com"), "other names": replace(c, id, "b.example.com"),
			"another account's": replace(other, id, "a.example.com"),
		} {
			if o := got.want(http.StatusCreated).order(); o.Replaces != "" {
				l.Errorf("%s: order %+v", what, o)
			}
		}
		o := replace(c, id, "a.example.com", "b.example.com").want(http.StatusCreated).order()
		if o.Replaces != id || c.read(o).Replaces != id {
			l.Errorf("order %+v does not replace %s", o, id)
		}
		replace(c, id, "a.example.com").refused(acme.AlreadyReplaced, http.StatusConflict)
		// An order that fails releases the certificate.
		c.send(o.Authorizations[0], rawacme.Fields{"status": "deactivated"}).want(http.StatusOK)
		c.read(o).is(l, acmeserver.StatusInvalid)
		replace(c, id, "a.example.com").want(http.StatusCreated)
	})
}

func TestTooManyOrders(t *testing.T) {
	inLab(t, func(c *acmeserver.Config) { c.Limits.Orders = 2 }, func(l *lab) {
		c := l.account(l.start())
		c.newOrder("a.example.com")
		o := c.newOrder("b.example.com")
		payload := rawacme.Fields{"identifiers": dns("c.example.com")}
		// Clients would wait silently for 429.
		c.send(l.cfg.URL+"/new-order", payload).refused(acme.RateLimit, http.StatusForbidden)
		c.finalize(o, rawacme.NewKey()).want(http.StatusOK)
		c.send(l.cfg.URL+"/new-order", payload).want(http.StatusCreated)
	})
}

func TestExpiredOrder(t *testing.T) {
	inLab(t, func(c *acmeserver.Config) { c.Limits.OrderLife = time.Hour }, func(l *lab) {
		c := l.account(l.start())
		o := c.newOrder("a.example.com")
		l.wait(time.Hour)
		if got := c.read(o).is(l, acmeserver.StatusInvalid); got.Error == nil {
			l.Errorf("order %+v has no error", got)
		}
		if a := c.authorization(o.Authorizations[0]); a.Status != acmeserver.StatusExpired {
			l.Errorf("authorization %+v", a)
		}
		c.finalize(o, rawacme.NewKey()).refused(acme.OrderNotReady, http.StatusForbidden)
		c.send(o.Authorizations[0], rawacme.Fields{"status": "deactivated"}).refused(acme.Malformed, http.StatusBadRequest)
	})
}

func TestResourcesBelongToTheirAccount(t *testing.T) { // C9
	inLab(t, nil, func(l *lab) {
		s := l.start()
		c, other := l.account(s), l.account(s)
		o := c.newOrder("a.example.com")
		key := rawacme.NewKey()
		done := c.finalize(o, key).want(http.StatusOK).order()
		challenge := c.authorization(o.Authorizations[0]).Challenges[0].URL
		for _, url := range []string{o.URL, o.Authorizations[0], challenge, done.Certificate} {
			other.send(url, nil).refused(acme.Unauthorized, http.StatusForbidden)
		}
		other.finalize(o, key).refused(acme.Unauthorized, http.StatusForbidden)
		other.send(o.Authorizations[0], rawacme.Fields{"status": "deactivated"}).refused(acme.Unauthorized, http.StatusForbidden)
		for _, path := range []string{"/order/x", "/authorization/x/0", "/challenge/x/0/http-01", "/certificate/x"} {
			c.send(l.cfg.URL+path, nil).refused(acme.Malformed, http.StatusNotFound)
		}
		for _, url := range []string{
			o.Authorizations[0] + "0", strings.TrimSuffix(o.Authorizations[0], "0") + "1", strings.TrimSuffix(o.Authorizations[0], "0") + "+0",
			strings.TrimSuffix(challenge, "http-01") + "dns-01", done.Certificate + "/0", done.Certificate + "/1",
		} {
			c.send(url, nil).refused(acme.Malformed, http.StatusNotFound)
		}
		for _, url := range []string{o.URL, done.Certificate} {
			c.send(url, rawacme.Fields{}).refused(acme.Malformed, http.StatusBadRequest)
		}
	})
}
