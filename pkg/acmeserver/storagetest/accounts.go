package storagetest

import (
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
)

var accountCases = []testCase{
	{"an account comes back as it was", func(t *testing.T, f *fixture) { // C6
		ctx, a := t.Context(), f.account("a", "owner")
		noZero(t, a)
		ok(t, f.CreateAccount(ctx, a, 0))
		equal(t, must(f.AccountByID(ctx, "a"))(t), a)
		equal(t, must(f.AccountByKey(ctx, a.Thumbprint))(t), a)
		bare := acmeserver.Account{ID: "b", Thumbprint: "t", Version: 1}
		ok(t, f.CreateAccount(ctx, bare, 0))
		equal(t, must(f.AccountByID(ctx, "b"))(t), bare)
	}},
	{"an unknown account is not found", func(t *testing.T, f *fixture) {
		ctx := t.Context()
		ok(t, f.CreateAccount(ctx, f.account("a", ""), 0))
		for _, id := range strange {
			_, err := f.AccountByID(ctx, id)
			wantErr(t, err, acmeserver.ErrNotFound)
			_, err = f.AccountByKey(ctx, id)
			wantErr(t, err, acmeserver.ErrNotFound)
		}
		wantErr(t, f.UpdateAccount(ctx, f.account("b", "")), acmeserver.ErrNotFound)
	}},
	{"a key has one account", func(t *testing.T, f *fixture) { // C6
		ctx, a := t.Context(), f.account("a", "o")
		ok(t, f.CreateAccount(ctx, a, 1))
		same := f.account("b", "o")
		same.Thumbprint = a.Thumbprint
		// This answer comes first, since newAccount then returns the account.
		wantErr(t, f.CreateAccount(ctx, same, 1), acmeserver.ErrExists)
		wantErr(t, f.CreateAccount(ctx, same, 0), acmeserver.ErrExists)
		sameID := f.account("a", "o")
		sameID.Thumbprint = "another"
		wantErr(t, f.CreateAccount(ctx, sameID, 0), acmeserver.ErrExists)
		equal(t, must(f.AccountByID(ctx, "a"))(t), a)
		_, err := f.AccountByID(ctx, "b")
		wantErr(t, err, acmeserver.ErrNotFound)
	}},
	{"an owner has a limited number of accounts", func(t *testing.T, f *fixture) {
		ctx := t.Context()
		ok(t, f.CreateAccount(ctx, f.account("a1", "o"), 2))
		ok(t, f.CreateAccount(ctx, f.account("a2", "o"), 2))
		wantErr(t, f.CreateAccount(ctx, f.account("a3", "o"), 2), acmeserver.ErrTooMany)
		ok(t, f.CreateAccount(ctx, f.account("b1", "p"), 2))
		a := must(f.AccountByID(ctx, "a1"))(t)
		a.Status = acmeserver.StatusDeactivated
		ok(t, f.UpdateAccount(ctx, a))
		wantErr(t, f.CreateAccount(ctx, f.account("a3", "o"), 2), acmeserver.ErrTooMany)
		ok(t, f.CreateAccount(ctx, f.account("a3", "o"), 0))

		must(f.Purge(ctx, f.clock.now(), 10))(t)
		must(f.AccountByID(ctx, "a1"))(t) // it is not older than that
		f.clock.advance(time.Hour)
		equal(t, must(f.Purge(ctx, f.clock.now(), 10))(t), false)
		_, err := f.AccountByID(ctx, "a1")
		wantErr(t, err, acmeserver.ErrNotFound)
		must(f.AccountByID(ctx, "a2"))(t) // it is valid
		ok(t, f.CreateAccount(ctx, f.account("a1", "o"), 3))
	}},
	{"an update needs the present version", func(t *testing.T, f *fixture) {
		ctx, a := t.Context(), f.account("a", "o")
		ok(t, f.CreateAccount(ctx, a, 0))
		a.Status, a.Contacts, a.Terms, a.Kid, a.Binding = acmeserver.StatusDeactivated, []string{"mailto:new@example.com"}, "t2", "k2", []byte("b2")
		ok(t, f.UpdateAccount(ctx, a))
		wantErr(t, f.UpdateAccount(ctx, a), acmeserver.ErrStale)
		a.Version++
		equal(t, must(f.AccountByID(ctx, "a"))(t), a)
		a.Contacts = nil
		ok(t, f.UpdateAccount(ctx, a)) // without reading in between
		a.Version++
		equal(t, must(f.AccountByID(ctx, "a"))(t), a)
	}},
	{"a key changes", func(t *testing.T, f *fixture) { // C18
		ctx, a, b := t.Context(), f.account("a", "o"), f.account("b", "o")
		ok(t, f.CreateAccount(ctx, a, 0))
		ok(t, f.CreateAccount(ctx, b, 0))
		old := a.Thumbprint
		a.Thumbprint, a.Key = b.Thumbprint, b.Key
		wantErr(t, f.UpdateAccount(ctx, a), acmeserver.ErrExists)
		equal(t, must(f.AccountByKey(ctx, b.Thumbprint))(t), b)
		a.Thumbprint, a.Key = "new", []byte("new key")
		ok(t, f.UpdateAccount(ctx, a)) // the refused update changed no version
		a.Version++
		equal(t, must(f.AccountByKey(ctx, "new"))(t), a)
		_, err := f.AccountByKey(ctx, old)
		wantErr(t, err, acmeserver.ErrNotFound)
		c := f.account("c", "o")
		c.Thumbprint = old
		ok(t, f.CreateAccount(ctx, c, 0))
	}},
}
