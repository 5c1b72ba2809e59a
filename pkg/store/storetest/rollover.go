package storetest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
)

var rolloverCases = []testCase{
	{"replaced credentials are gone, grants and certificates stay", replaceAll},
	{"a replacement that cannot be changes nothing", replaceRefused},
	{"a bundle is stored for today's recipients only", completeStale},
	{"a key takes another's place", rollKey},
	{"a rolled key cannot be enrolled again", rollKeyToken},
	{"a rollover that cannot be changes nothing", rollKeyRefused},
	{"of two rollovers one wins", rollKeyRace},
	{"no other key is registered while all are replaced", raceReplace},
}

func replaceAll(t *testing.T, f *fixture) {
	ctx := t.Context()
	c := must(f.CreateClient(ctx, clients.Client{Name: "web1", Recipients: []string{"age1a"}, Grants: []clients.Grant{{Names: []string{"a.example"}}}},
		clients.Credential{Kind: clients.Enrolment, Verifier: hash("used"), ExpiresAt: f.clock.Now().Add(time.Hour)},
		clients.Credential{Kind: clients.Enrolment, Verifier: hash("unused"), ExpiresAt: f.clock.Now().Add(time.Hour)},
		clients.Credential{Kind: clients.Bearer, Verifier: hash("bearer")}))(t)
	other := f.withSecret(t, "web2", "other")
	must(f.Enroll(ctx, hash("used"), key("k"), []string{"age1b"}))(t)
	m, _, err := f.EnsureManaged(ctx, managed.Certificate{ClientID: c.ID, Mode: "agent", Names: []string{"a.example"}, KeyType: "ec256"})
	ok(t, err)
	f.complete(t, m.ID, "e", false)
	before := must(f.ManagedByID(ctx, m.ID))(t)

	got := must(f.ReplaceCredentials(ctx, clients.Credential{ClientID: c.ID, Kind: clients.Enrolment, Verifier: hash("new"), ExpiresAt: f.clock.Now().Add(time.Hour)}, []string{"age1c"}))(t)
	c.Recipients = []string{"age1c"}
	equal(t, got, c)
	equal(t, must(f.ClientByID(ctx, c.ID))(t), c)
	for _, cred := range []clients.Credential{{Kind: clients.TLSKey, Verifier: hash("k")}, {Kind: clients.Bearer, Verifier: hash("bearer")}} {
		_, _, err := f.ClientByCredential(ctx, cred.Kind, cred.Verifier)
		wantErr(t, err, managed.ErrNotFound)
	}
	for _, token := range []string{"used", "unused"} {
		_, err := f.Enroll(ctx, hash(token), key("k"), nil)
		wantErr(t, err, managed.ErrNotFound)
	}
	equal(t, must(f.ManagedByID(ctx, m.ID))(t), before)
	equal(t, must(f.BundleFor(ctx, m.ID))(t).ETag, "e")
	equal(t, len(must(f.Credentials(ctx, other.ID))(t)), 1)
	must(f.Enroll(ctx, hash("new"), key("k"), []string{"age1d"}))(t) // also the key of before
	equal(t, must(f.ClientByID(ctx, c.ID))(t).Recipients, []string{"age1c", "age1d"})
}

func replaceRefused(t *testing.T, f *fixture) {
	ctx := t.Context()
	c := f.withSecret(t, "web1", "secret")
	f.withSecret(t, "web2", "taken")
	before := must(f.Credentials(ctx, c.ID))(t)
	cred := clients.Credential{ClientID: c.ID, Kind: clients.Enrolment, Verifier: hash("taken")}
	_, err := f.ReplaceCredentials(ctx, cred, nil)
	wantErr(t, err, managed.ErrConflict)
	cred.Verifier = hash("new")
	many := []string{}
	for i := range 65 {
		many = append(many, fmt.Sprintf("age1%d", i))
	}
	_, err = f.ReplaceCredentials(ctx, cred, many)
	wantErr(t, err, managed.ErrTooMany)
	for _, id := range []string{"", "unknown"} {
		cred.ClientID = id
		_, err = f.ReplaceCredentials(ctx, cred, nil)
		wantErr(t, err, managed.ErrNotFound)
	}
	equal(t, must(f.Credentials(ctx, c.ID))(t), before)
	equal(t, must(f.ClientByID(ctx, c.ID))(t), c)
}

func completeStale(t *testing.T, f *fixture) {
	ctx := t.Context()
	c := f.withSecret(t, "web1", "secret")
	m, _, err := f.EnsureManaged(ctx, managed.Certificate{ClientID: c.ID, Mode: "agent", Names: []string{"a.example"}, KeyType: "ec256"})
	ok(t, err)
	f.claimOne(t, "w1")
	b := f.bundle(m.ID, "e")
	for _, change := range []func(){
		func() { must(f.Enroll(ctx, hash("secret"), key("k"), []string{"age1new"}))(t) },
		func() {
			must(f.ReplaceCredentials(ctx, clients.Credential{ClientID: c.ID, Kind: clients.Enrolment, Verifier: hash("2")}, []string{"age1x"}))(t)
		},
		func() {
			must(f.ReplaceCredentials(ctx, clients.Credential{ClientID: c.ID, Kind: clients.Enrolment, Verifier: hash("3")}, nil))(t)
		},
	} {
		b.SealedTo = must(f.ClientByID(ctx, c.ID))(t).Recipients
		change()
		wantErr(t, f.CompleteManaged(ctx, "w1", b, time.Time{}, false), managed.ErrStale)
		_, err = f.BundleFor(ctx, m.ID)
		wantErr(t, err, managed.ErrNotFound)
	}
	must(f.Enroll(ctx, hash("3"), key("k"), []string{"age1y"}))(t)
	b.SealedTo = []string{"age1y"}
	wantErr(t, f.CompleteManaged(ctx, "w2", b, time.Time{}, false), managed.ErrLost)
	ok(t, f.CompleteManaged(ctx, "w1", b, time.Time{}, false))
	ok(t, f.SetDue(ctx, m.ID, f.clock.Now()))
	f.claimOne(t, "w1")
	ok(t, f.RemoveClient(ctx, c.ID))
	wantErr(t, f.CompleteManaged(ctx, "w1", b, time.Time{}, false), managed.ErrLost)
}

// enrolled is a client with one key.
func (f *fixture) enrolled(t *testing.T, name string) (clients.Client, clients.Credential) {
	t.Helper()
	f.withSecret(t, name, "secret-"+name)
	must(f.Enroll(t.Context(), hash("secret-"+name), key("key-"+name), []string{"age1" + name}))(t)
	c, cred, err := f.ClientByCredential(t.Context(), clients.TLSKey, hash("key-"+name))
	ok(t, err)
	return c, cred
}

func rollKey(t *testing.T, f *fixture) {
	ctx := t.Context()
	c, cred := f.enrolled(t, "web1")
	f.clock.Advance(time.Hour)
	got := must(f.RollKey(ctx, clients.Rollover{CredentialID: cred.ID, Old: cred.Verifier, New: hash("new"), Add: []string{"age1new", "age1old"}, Retire: []string{"age1web1"}}))(t)
	c.Recipients = []string{"age1old", "age1new"}
	equal(t, got, c)
	client, now, err := f.ClientByCredential(ctx, clients.TLSKey, hash("new"))
	ok(t, err)
	equal(t, client, c)
	cred.Verifier = hash("new")
	equal(t, now, cred) // as old as before
	_, _, err = f.ClientByCredential(ctx, clients.TLSKey, hash("key-web1"))
	wantErr(t, err, managed.ErrNotFound)
}

func rollKeyToken(t *testing.T, f *fixture) {
	ctx := t.Context()
	c, cred := f.enrolled(t, "web1")
	must(f.RollKey(ctx, clients.Rollover{CredentialID: cred.ID, Old: cred.Verifier, New: hash("new")}))(t)
	_, err := f.Enroll(ctx, hash("secret-web1"), key("key-web1"), []string{"age1thief"})
	wantErr(t, err, managed.ErrNotFound) // the token of before must not let the old key in again
	equal(t, must(f.ClientByID(ctx, c.ID))(t), c)
}

func rollKeyRefused(t *testing.T, f *fixture) {
	ctx := t.Context()
	c, cred := f.enrolled(t, "web1")
	_, other := f.enrolled(t, "web2")
	bearer := must(f.AddCredential(ctx, clients.Credential{ClientID: c.ID, Kind: clients.Bearer, Verifier: hash("token")}))(t)
	many := []string{}
	for i := range 63 {
		many = append(many, fmt.Sprintf("age1%d", i))
	}
	for name, r := range map[string]struct {
		rollover clients.Rollover
		want     error
	}{
		"a key of another client":  {clients.Rollover{CredentialID: cred.ID, Old: cred.Verifier, New: other.Verifier}, managed.ErrConflict},
		"not the old key":          {clients.Rollover{CredentialID: cred.ID, Old: other.Verifier, New: hash("new")}, managed.ErrNotFound},
		"no such credential":       {clients.Rollover{CredentialID: "unknown", Old: cred.Verifier, New: hash("new")}, managed.ErrNotFound},
		"a bearer token":           {clients.Rollover{CredentialID: bearer.ID, Old: bearer.Verifier, New: hash("new")}, managed.ErrNotFound},
		"too many recipients":      {clients.Rollover{CredentialID: cred.ID, Old: cred.Verifier, New: hash("new"), Add: many}, managed.ErrTooMany},
		"a recipient of others":    {clients.Rollover{CredentialID: cred.ID, Old: cred.Verifier, New: hash("new"), Retire: []string{"age1web2"}}, managed.ErrRecipients},
		"all recipients":           {clients.Rollover{CredentialID: cred.ID, Old: cred.Verifier, New: hash("new"), Retire: c.Recipients}, managed.ErrRecipients},
		"what is added at once":    {clients.Rollover{CredentialID: cred.ID, Old: cred.Verifier, New: hash("new"), Add: []string{"age1x"}, Retire: []string{"age1x"}}, managed.ErrRecipients},
		"a key of the same client": {clients.Rollover{CredentialID: cred.ID, Old: cred.Verifier, New: f.second(t, c)}, managed.ErrConflict},
	} {
		_, err := f.RollKey(ctx, r.rollover)
		if !errors.Is(err, r.want) {
			t.Errorf("%s: error is %v, want %v", name, err, r.want)
		}
	}
	if _, err := f.RollKey(ctx, clients.Rollover{CredentialID: cred.ID, Old: cred.Verifier}); err == nil {
		t.Error("an empty key was taken")
	}
	got, _, err := f.ClientByCredential(ctx, clients.TLSKey, cred.Verifier)
	ok(t, err)
	equal(t, got, c)
}

func (f *fixture) second(t *testing.T, c clients.Client) []byte {
	t.Helper()
	return must(f.AddCredential(t.Context(), clients.Credential{ClientID: c.ID, Kind: clients.TLSKey, Verifier: hash("second")}))(t).Verifier
}

func rollKeyRace(t *testing.T, f *fixture) {
	ctx := t.Context()
	_, cred := f.enrolled(t, "web1")
	won := make(chan int, workers)
	each(func(i int) {
		_, err := f.RollKey(ctx, clients.Rollover{CredentialID: cred.ID, Old: cred.Verifier, New: hash(fmt.Sprint(i)), Add: []string{fmt.Sprintf("age1%d", i)}})
		if err == nil {
			won <- i
		}
	})
	close(won)
	equal(t, len(won), 1)
	c, _, err := f.ClientByCredential(ctx, clients.TLSKey, hash(fmt.Sprint(<-won)))
	ok(t, err)
	equal(t, len(c.Recipients), 3)
}

// A host that enrols or rolls its key while all credentials are replaced fails, or
// loses its key with the rest (A21).
func raceReplace(t *testing.T, f *fixture) {
	ctx := t.Context()
	c, cred := f.enrolled(t, "web1")
	for i := range workers {
		must(f.AddCredential(ctx, clients.Credential{ClientID: c.ID, Kind: clients.Enrolment, Verifier: hash(fmt.Sprint("token", i))}))(t)
	}
	each(func(i int) {
		var err error
		switch {
		case i == workers/2:
			_, err = f.ReplaceCredentials(ctx, clients.Credential{ClientID: c.ID, Kind: clients.Enrolment, Verifier: hash("fresh")}, []string{"age1fresh"})
			if err != nil {
				t.Error(err)
			}
			return
		case i%2 == 0:
			_, err = f.Enroll(ctx, hash(fmt.Sprint("token", i)), key(fmt.Sprint("key", i)), []string{fmt.Sprint("age1", i)})
		default:
			_, err = f.RollKey(ctx, clients.Rollover{CredentialID: cred.ID, Old: cred.Verifier, New: hash(fmt.Sprint("rolled", i)), Add: []string{fmt.Sprint("age1", i)}})
		}
		if err != nil && !errors.Is(err, managed.ErrNotFound) {
			t.Error(err)
		}
	})
	equal(t, must(f.ClientByID(ctx, c.ID))(t).Recipients, []string{"age1fresh"})
	left := must(f.Credentials(ctx, c.ID))(t)
	equal(t, len(left), 1)
	equal(t, left[0].Verifier, hash("fresh"))
}
