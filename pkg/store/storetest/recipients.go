package storetest

import (
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
)

var recipientCases = []testCase{
	{"a secret tells whose it is without being spent", enrollingClient},
	{"a key in another spelling is the same recipient", recipientSpelling},
}

// recipientSpelling goes through everything that changes recipients (X9).
func recipientSpelling(t *testing.T, f *fixture) {
	const (
		age  = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"
		host = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGHvaM9Y0VuQDl1U0cVyl5+yXsWnXDpiqPjvQtNJjXvD"
	)
	ctx := t.Context()
	grants := []clients.Grant{{Names: []string{"a.example"}}}
	c := must(f.CreateClient(ctx, clients.Client{Name: "web1", Recipients: []string{host + " root@web1", " " + age, host}, Grants: grants},
		clients.Credential{Kind: clients.Enrolment, Verifier: hash("secret")}))(t)
	equal(t, c.Recipients, []string{host, age})
	c = must(f.Enroll(ctx, hash("secret"), key("k"), []string{host + " again", age}))(t)
	equal(t, c.Recipients, []string{host, age})
	done := must(f.ApplyClients(ctx, clients.Apply{Clients: []clients.Client{{Name: "web1", Recipients: []string{host + " in a file"}, Grants: grants}}}, nil))(t)
	equal(t, done.Unchanged, 1)
	_, credential, err := f.ClientByCredential(ctx, clients.TLSKey, hash("k"))
	ok(t, err)
	c = must(f.RollKey(ctx, clients.Rollover{
		CredentialID: credential.ID, Old: hash("k"), New: hash("k2"), Add: []string{age + " "}, Retire: []string{host + " gone"},
	}))(t)
	equal(t, c.Recipients, []string{age})
	c = must(f.ReplaceCredentials(ctx, clients.Credential{ClientID: c.ID, Kind: clients.Enrolment, Verifier: hash("next")},
		[]string{host + " one", host + " two"}))(t)
	equal(t, c.Recipients, []string{host})
	equal(t, must(f.ClientByID(ctx, c.ID))(t).Recipients, []string{host})
}

// enrollingClient finds a client exactly as long as Enroll would register the key.
func enrollingClient(t *testing.T, f *fixture) {
	ctx := t.Context()
	c := f.withSecret(t, "web1", "secret")
	find := func(secret, key string) error {
		got, err := f.EnrollingClient(ctx, hash(secret), hash(key))
		if err == nil {
			equal(t, got.ID, c.ID)
		}
		return err
	}
	wantErr(t, find("other", "k"), managed.ErrNotFound)
	ok(t, find("secret", "k"))
	ok(t, find("secret", "k2"))
	must(f.Enroll(ctx, hash("secret"), key("k2"), nil))(t)
	wantErr(t, find("secret", "k"), managed.ErrNotFound)
	ok(t, find("secret", "k2")) // its answer may have been lost
	f.clock.Advance(2 * time.Hour)
	wantErr(t, find("secret", "k2"), managed.ErrNotFound)
	_, err := f.EnrollingClient(ctx, nil, nil)
	wantErr(t, err, managed.ErrNotFound)
}
