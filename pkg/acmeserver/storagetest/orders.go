package storagetest

import (
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
)

var orderCases = []testCase{
	{"an order comes back as it was", keepsOrder}, // C7
	{"an unknown order is not found", func(t *testing.T, f *fixture) {
		ctx := t.Context()
		f.create(t, f.order("o", "a"))
		for _, id := range strange {
			_, err := f.Order(ctx, id)
			wantErr(t, err, acmeserver.ErrNotFound)
		}
		wantErr(t, f.UpdateOrder(ctx, f.order("p", "a")), acmeserver.ErrNotFound)
		wantErr(t, f.CompleteOrder(ctx, f.order("p", "a"), f.certificate("c")), acmeserver.ErrNotFound)
		_, err := f.CertificateByID(ctx, "c")
		wantErr(t, err, acmeserver.ErrNotFound)
	}},
	{"an ID has one order", func(t *testing.T, f *fixture) {
		o := f.create(t, f.order("o", "a"))
		wantErr(t, f.CreateOrder(t.Context(), f.order("o", "b"), 0), acmeserver.ErrExists)
		equal(t, must(f.Order(t.Context(), "o"))(t), o)
	}},
	{"an update needs the present version", func(t *testing.T, f *fixture) {
		ctx, o := t.Context(), f.create(t, f.order("o", "a"))
		o.Status = acmeserver.StatusReady
		ok(t, f.UpdateOrder(ctx, o))
		wantErr(t, f.UpdateOrder(ctx, o), acmeserver.ErrStale)
		wantErr(t, f.CompleteOrder(ctx, o, f.certificate("c")), acmeserver.ErrStale)
		_, err := f.CertificateByID(ctx, "c")
		wantErr(t, err, acmeserver.ErrNotFound)
		o.Version++
		equal(t, must(f.Order(ctx, "o"))(t), o)
		o.Status = acmeserver.StatusProcessing
		ok(t, f.UpdateOrder(ctx, o)) // without reading in between
	}},
	{"an update leaves what an order is for", func(t *testing.T, f *fixture) {
		o := f.create(t, f.order("o", "a"))
		got := f.update(t, "o", func(o *acmeserver.Order) {
			o.AccountID, o.Owner, o.Identifiers, o.CreatedAt = "b", "b", nil, o.CreatedAt.Add(time.Hour)
			o.Profile = "changed"
		})
		o.Profile, o.Version = "changed", 2
		equal(t, got, o)
	}},
	{"an owner has a limited number of orders that cost it nothing", limitsOrders},
	{"an account's orders are listed in pages", listsOrders}, // C6
	{"an order is completed with its certificate", func(t *testing.T, f *fixture) { // C7, C17
		ctx, o := t.Context(), f.create(t, f.order("o", "a"))
		c := f.certificate("c")
		o.Status, o.CertificateID = acmeserver.StatusValid, "c"
		ok(t, f.CompleteOrder(ctx, o, c))
		o.Version++
		equal(t, must(f.Order(ctx, "o"))(t), o)
		equal(t, must(f.CertificateByID(ctx, "c"))(t), c)

		p := f.create(t, f.order("p", "a"))
		wantErr(t, f.CompleteOrder(ctx, p, f.certificate("c")), acmeserver.ErrExists)
		equal(t, must(f.Order(ctx, "p"))(t), p)
	}},
}

// keepsOrder creates an order with every field, and gives it others.
func keepsOrder(t *testing.T, f *fixture) {
	ctx, now := t.Context(), f.clock.now()
	f.issue(t, f.order("before", "a"), f.certificate("c0"))
	problem := &acme.Problem{
		Type: acme.Compound, Detail: "two \x00 \u00e9", Status: 403, Identifier: &acme.Identifier{Type: acme.TypeDNS, Value: "a.example"},
		Subproblems: []acme.Subproblem{{Type: acme.DNS, Detail: "d", Identifier: acme.Identifier{Type: acme.TypeIP, Value: "192.0.2.1"}}},
		Algorithms:  []string{"ES256"},
	}
	o := acmeserver.Order{
		ID: "o", AccountID: "a", Owner: "owner", Status: acmeserver.StatusProcessing,
		Identifiers: []acme.Identifier{{Type: acme.TypeDNS, Value: "*.a.example"}, {Type: acme.TypeIP, Value: "192.0.2.1"}},
		Authorizations: []acmeserver.Authorization{{
			Identifier: acme.Identifier{Type: acme.TypeDNS, Value: "a.example"}, Wildcard: true, Status: acmeserver.StatusInvalid,
			Challenges: []acmeserver.Challenge{{
				Type: acme.DNS01, Token: "t", Status: acmeserver.StatusInvalid, Validated: now, Error: problem,
				Addr: netip.MustParseAddr("2001:db8::1"), Attempts: 3, DueAt: now.Add(time.Minute),
			}},
		}},
		Profile: "short", NotBefore: now.Add(time.Hour), NotAfter: now.Add(2 * time.Hour), Replaces: "ari.of-c0", Error: problem,
		CreatedAt: now, Expires: now.Add(24 * time.Hour), CSR: []byte{0x30, 0}, CSRHash: "csr hash",
		Addr: netip.MustParseAddr("2001:db8::2"), CertificateID: "c", Joined: true, Share: "share \u00e9", KeyHash: "hash",
		Issuing: true, State: []byte{0, 1}, DueAt: now.Add(time.Minute), WaitUntil: now.Add(time.Second), Failures: 2, LeaseOwner: "w", LeaseUntil: now.Add(3 * time.Minute),
		Version: 1,
	}
	noZero(t, o)
	noZero(t, o.Authorizations[0])
	noZero(t, o.Authorizations[0].Challenges[0])
	ok(t, f.CreateOrder(ctx, o, 0))
	equal(t, must(f.Order(ctx, "o"))(t), o)
	bare := acmeserver.Order{
		ID: "o", AccountID: "a", Owner: "owner", Status: acmeserver.StatusReady, Identifiers: o.Identifiers, Replaces: o.Replaces,
		CreatedAt: o.CreatedAt, Expires: o.Expires.Add(time.Hour), Version: 1,
	}
	ok(t, f.UpdateOrder(ctx, bare))
	bare.Version++
	equal(t, must(f.Order(ctx, "o"))(t), bare)
	o.Version = 2
	ok(t, f.UpdateOrder(ctx, o))
	o.Version++
	equal(t, must(f.Order(ctx, "o"))(t), o)
}

// noZero fails the test if a field of a struct is zero, so that a new field is tested.
func noZero(t *testing.T, v any) {
	t.Helper()
	for value, i := reflect.ValueOf(v), 0; i < value.NumField(); i++ {
		if value.Field(i).IsZero() {
			t.Fatalf("the test must set %T.%s", v, value.Type().Field(i).Name)
		}
	}
}

func limitsOrders(t *testing.T, f *fixture) {
	ctx := t.Context()
	for id, status := range map[string]acmeserver.Status{"o1": acmeserver.StatusPending, "o2": acmeserver.StatusReady, "o3": acmeserver.StatusProcessing} {
		o := f.order(id, "a")
		o.Status = status
		ok(t, f.CreateOrder(ctx, o, 3))
	}
	wantErr(t, f.CreateOrder(ctx, f.order("o4", "a"), 3), acmeserver.ErrTooMany)
	ok(t, f.CreateOrder(ctx, f.order("p1", "b"), 3))
	ok(t, f.CreateOrder(ctx, f.order("o4", "a"), 0))
	f.update(t, "o4", func(o *acmeserver.Order) { o.Status = acmeserver.StatusInvalid })
	f.complete(t, "o3", f.certificate("c"))
	wantErr(t, f.CreateOrder(ctx, f.order("o5", "a"), 3), acmeserver.ErrTooMany) // o4 counts
	ok(t, f.CreateOrder(ctx, f.order("o5", "a"), 4))
	wantErr(t, f.CreateOrder(ctx, f.order("o6", "a"), 4), acmeserver.ErrTooMany)
	_, err := f.Order(ctx, "o6")
	wantErr(t, err, acmeserver.ErrNotFound)
	f.create(t, f.shared("q1", "c", "s"))
	f.complete(t, "q1", f.certificate("c1"))
	ok(t, f.CreateOrder(ctx, f.order("q2", "c"), 1)) // the issuer's limits bound those that it issued
	f.update(t, "q2", func(o *acmeserver.Order) { o.Status, o.CertificateID, o.Joined = acmeserver.StatusValid, "c1", true })
	wantErr(t, f.CreateOrder(ctx, f.order("q3", "c"), 1), acmeserver.ErrTooMany)
	f.clock.advance(25 * time.Hour) // the others have expired
	ok(t, f.CreateOrder(ctx, f.order("o6", "a"), 1))
}

func listsOrders(t *testing.T, f *fixture) {
	ctx := t.Context()
	list := func(after string, limit int) []string {
		t.Helper()
		return must(f.OrdersByAccount(ctx, "a", after, limit))(t)
	}
	equal(t, list("", 10), nil)
	for i := range 6 {
		f.create(t, f.order(numbered("o", i), "a"))
		f.create(t, f.order(numbered("other", i), "b"))
		if i%2 == 1 { // two at each time
			f.clock.advance(time.Second)
		}
	}
	f.update(t, "o003", func(o *acmeserver.Order) { o.Status = acmeserver.StatusInvalid })
	f.complete(t, "o001", f.certificate("c"))
	equal(t, list("", 10), []string{"o005", "o004", "o002", "o001", "o000"})
	equal(t, list("", 2), []string{"o005", "o004"})
	equal(t, list("o004", 2), []string{"o002", "o001"})
	equal(t, list("o003", 2), []string{"o002", "o001"}) // which became invalid between two pages
	equal(t, list("o001", 2), []string{"o000"})
	equal(t, list("o000", 2), nil)
	for _, id := range append([]string{"other005"}, strange[1:]...) {
		equal(t, list(id, 2), nil)
	}
	for _, id := range strange {
		equal(t, must(f.OrdersByAccount(ctx, id, "", 2))(t), nil)
	}
}
