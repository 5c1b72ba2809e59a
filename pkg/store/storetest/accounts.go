package storetest

import (
	"testing"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
)

const directory = "https://ca.example/dir"

var accountCases = []testCase{
	{"an account is kept once for a directory", accountOnce},
	{"its URL is set after registration", accountURL},
	{"a secret is kept once for a name", secretOnce},
	{"the store answers a ping", func(t *testing.T, f *fixture) { ok(t, f.Ping(t.Context())) }},
}

func accountOnce(t *testing.T, f *fixture) { // A28
	ctx := t.Context()
	_, err := f.AccountByDirectory(ctx, directory)
	wantErr(t, err, managed.ErrNotFound)
	want := acme.Account{DirectoryURL: directory, SealedKey: []byte("first"), CreatedAt: f.clock.Now()}
	equal(t, must(f.CreateAccount(ctx, want))(t), want)
	equal(t, must(f.CreateAccount(ctx, acme.Account{DirectoryURL: directory, SealedKey: []byte("second")}))(t), want)
	equal(t, must(f.AccountByDirectory(ctx, directory))(t), want)
	must(f.CreateAccount(ctx, acme.Account{DirectoryURL: directory + "2", SealedKey: []byte("other")}))(t)
	equal(t, must(f.AccountByDirectory(ctx, directory))(t), want)
}

func accountURL(t *testing.T, f *fixture) { // A28, A29
	ctx := t.Context()
	wantErr(t, f.SetAccountURL(ctx, directory, "https://ca.example/acct/1", ""), managed.ErrNotFound)
	must(f.CreateAccount(ctx, acme.Account{DirectoryURL: directory, SealedKey: []byte("k")}))(t)
	ok(t, f.SetAccountURL(ctx, directory, "https://ca.example/acct/1", "ops@example.com"))
	a := must(f.AccountByDirectory(ctx, directory))(t)
	equal(t, []string{a.URL, a.Email, string(a.SealedKey)}, []string{"https://ca.example/acct/1", "ops@example.com", "k"})
}

func secretOnce(t *testing.T, f *fixture) {
	ctx := t.Context()
	_, err := f.Secret(ctx, "api-key")
	wantErr(t, err, managed.ErrNotFound)
	binary := []byte{0, 1, 255, '\n', 0}
	equal(t, must(f.CreateSecret(ctx, "api-key", binary))(t), binary)
	equal(t, must(f.CreateSecret(ctx, "api-key", []byte("late")))(t), binary)
	equal(t, must(f.Secret(ctx, "api-key"))(t), binary)
	equal(t, len(must(f.CreateSecret(ctx, "empty", nil))(t)), 0)
}
