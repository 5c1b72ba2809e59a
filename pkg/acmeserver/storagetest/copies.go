package storagetest

import (
	"slices"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
)

var copyCases = []testCase{
	{"a secret is a copy", func(t *testing.T, f *fixture) {
		value := []byte("value")
		got := must(f.Secret(t.Context(), "s", value))(t)
		scratch(value)
		scratch(got)
		equal(t, string(must(f.Secret(t.Context(), "s", nil))(t)), "value")
	}},
	{"an account is a copy", func(t *testing.T, f *fixture) {
		ctx, in, want := t.Context(), f.account("a", "o"), f.account("a", "o")
		spoil := func(a acmeserver.Account) {
			scratch(a.Key)
			scratch(a.Binding)
			a.Contacts[0] = "changed"
		}
		ok(t, f.CreateAccount(ctx, in, 0))
		spoil(in)
		spoil(must(f.AccountByID(ctx, "a"))(t))
		spoil(must(f.AccountByKey(ctx, want.Thumbprint))(t))
		equal(t, must(f.AccountByID(ctx, "a"))(t), want)
		in = f.account("a", "o")
		ok(t, f.UpdateAccount(ctx, in))
		spoil(in)
		want.Version++
		equal(t, must(f.AccountByID(ctx, "a"))(t), want)
	}},
	{"an order is a copy", func(t *testing.T, f *fixture) {
		ctx := t.Context()
		order := func(version int64) acmeserver.Order {
			o := f.dueOrder("o", "a", 0)
			o.CSR, o.State, o.Version = []byte("csr"), []byte("state"), version
			o.Error = &acme.Problem{
				Identifier:  &acme.Identifier{Value: "a.example"},
				Subproblems: []acme.Subproblem{{Detail: "sub"}}, Algorithms: []string{"ES256"},
			}
			o.Authorizations[0].Challenges[0].Error = &acme.Problem{Detail: "of the challenge"}
			return o
		}
		in := order(1)
		ok(t, f.CreateOrder(ctx, in, 0))
		spoilOrder(in)
		spoilOrder(must(f.Order(ctx, "o"))(t))
		equal(t, must(f.Order(ctx, "o"))(t), order(1))
		in = order(1)
		ok(t, f.UpdateOrder(ctx, in))
		spoilOrder(in)
		equal(t, must(f.Order(ctx, "o"))(t), order(2))
		claimed := f.claim(t, "w", 5)[0]
		want := order(3)
		want.LeaseOwner, want.LeaseUntil = claimed.LeaseOwner, claimed.LeaseUntil
		equal(t, claimed, want)
		spoilOrder(claimed)
		equal(t, must(f.Order(ctx, "o"))(t), want)
	}},
	{"a certificate is a copy", func(t *testing.T, f *fixture) {
		ctx, in := t.Context(), f.certificate("c")
		want := f.certificate("c")
		want.OrderID = "o"
		spoil := func(c acmeserver.Certificate) {
			for i := range c.Chains {
				scratch(c.Chains[i])
			}
			c.Chains[0] = nil
			scratch(c.State)
			c.Identifiers[0] = "changed"
		}
		f.create(t, f.shared("o", "a", "s"))
		spoil(f.complete(t, "o", in))
		spoil(must(f.CertificateByID(ctx, "c"))(t))
		spoil(must(f.CertificateByARI(ctx, want.ARIID))(t))
		spoil(must(f.CertificatesByFingerprint(ctx, want.Fingerprint))(t)[0])
		spoil(must(f.Uncollected(ctx, "s", "key", time.Time{}, time.Time{}))(t))
		equal(t, must(f.CertificateByID(ctx, "c"))(t), want)
	}},
}

// scratch overwrites b.
func scratch(b []byte) { copy(b, slices.Repeat([]byte{'!'}, len(b))) }

func spoilOrder(o acmeserver.Order) {
	scratch(o.CSR)
	scratch(o.State)
	o.Identifiers[0].Value = "changed"
	o.Error.Detail = "changed"
	o.Error.Identifier.Value = "changed"
	o.Error.Subproblems[0].Detail = "changed"
	o.Error.Algorithms[0] = "changed"
	o.Authorizations[0].Challenges[0].Error.Detail = "changed"
	o.Authorizations[0].Challenges[0].Token = "changed"
	o.Authorizations[0].Status = "changed"
}
