package storagetest

import (
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
)

// authorized reports whether account a holds authorizations.
func (f *fixture) authorized(t *testing.T, names ...string) bool {
	t.Helper()
	return must(f.Authorized(t.Context(), "a", names, f.clock.now()))(t)
}

// authorize returns an order of account a whose authorizations are valid.
func (f *fixture) authorize(id string, names ...string) acmeserver.Order {
	o := f.order(id, "a")
	o.Authorizations = nil
	for _, name := range names {
		o.Authorizations = append(o.Authorizations, acmeserver.Authorization{
			Identifier: acme.Identifier{Type: acme.TypeDNS, Value: name}, Status: acmeserver.StatusValid,
		})
	}
	return o
}

func setStatus(n int, s acmeserver.Status) func(*acmeserver.Order) {
	return func(o *acmeserver.Order) { o.Authorizations[n].Status = s }
}

var authorizationCases = []testCase{
	{"a valid authorization counts", func(t *testing.T, f *fixture) { // C18
		o := f.order("o", "a")
		o.Authorizations = append(o.Authorizations, acmeserver.Authorization{
			Identifier: acme.Identifier{Type: acme.TypeDNS, Value: "w.example"}, Wildcard: true, Status: acmeserver.StatusPending,
		})
		f.create(t, o)
		equal(t, f.authorized(t, "o.example"), false)
		f.update(t, "o", setStatus(0, acmeserver.StatusValid))
		equal(t, f.authorized(t, "o.example"), true)
		equal(t, f.authorized(t, "o.example", "*.w.example"), false)
		f.update(t, "o", setStatus(1, acmeserver.StatusValid))
		equal(t, f.authorized(t, "o.example", "*.w.example"), true)
		equal(t, f.authorized(t, "o.example", "o.example"), true)
		equal(t, f.authorized(t, "w.example"), false)
		equal(t, f.authorized(t, "o.example", "other.example"), false)
		equal(t, f.authorized(t), false)
		for _, name := range strange {
			equal(t, f.authorized(t, name), false)
			equal(t, must(f.Authorized(t.Context(), name, []string{"o.example"}, f.clock.now()))(t), false)
		}
		equal(t, must(f.Authorized(t.Context(), "b", []string{"o.example"}, f.clock.now()))(t), false)
	}},
	{"authorizations that are valid at once count", func(t *testing.T, f *fixture) {
		f.create(t, f.authorize("o", "a.example", "192.0.2.1"))
		equal(t, f.authorized(t, "192.0.2.1", "a.example"), true)
	}},
	{"a completed order's count", func(t *testing.T, f *fixture) {
		o := f.create(t, f.order("o", "a"))
		o.Status, o.Authorizations[0].Status = acmeserver.StatusValid, acmeserver.StatusValid
		ok(t, f.CompleteOrder(t.Context(), o, f.certificate("c")))
		equal(t, f.authorized(t, "o.example"), true)
		f.update(t, "o", func(o *acmeserver.Order) { o.Failures++ })
		equal(t, f.authorized(t, "o.example"), true)
	}},
	{"a deactivated one does not count", func(t *testing.T, f *fixture) {
		f.create(t, f.authorize("o", "a.example", "b.example"))
		f.create(t, f.authorize("p", "b.example"))
		f.update(t, "o", setStatus(0, acmeserver.StatusDeactivated))
		equal(t, f.authorized(t, "a.example"), false)
		equal(t, f.authorized(t, "b.example"), true)
		f.update(t, "o", setStatus(1, acmeserver.StatusDeactivated))
		equal(t, f.authorized(t, "b.example"), true) // the other order has one
		f.update(t, "p", setStatus(0, acmeserver.StatusDeactivated))
		equal(t, f.authorized(t, "b.example"), false)
	}},
	{"it expires with its order", func(t *testing.T, f *fixture) {
		o := f.create(t, f.authorize("o", "a.example"))
		f.clock.advance(24*time.Hour - time.Millisecond)
		equal(t, f.authorized(t, "a.example"), true)
		f.clock.advance(time.Millisecond)
		equal(t, f.authorized(t, "a.example"), false)
		f.update(t, "o", func(o *acmeserver.Order) { o.Expires = o.Expires.Add(time.Hour) })
		equal(t, f.authorized(t, "a.example"), true)
		f.update(t, "o", func(u *acmeserver.Order) { u.Expires = o.Expires })
		equal(t, f.authorized(t, "a.example"), false)
		f.create(t, f.authorize("p", "a.example"))
		equal(t, f.authorized(t, "a.example"), true)
	}},
	{"a refused update authorizes nothing", func(t *testing.T, f *fixture) {
		o := f.create(t, f.order("o", "a"))
		f.update(t, "o", func(o *acmeserver.Order) { o.Failures++ })
		o.Authorizations[0].Status = acmeserver.StatusValid
		wantErr(t, f.UpdateOrder(t.Context(), o), acmeserver.ErrStale)
		equal(t, f.authorized(t, "o.example"), false)
	}},
}
