package storetest

import (
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
)

var credentialCases = []testCase{
	{"a credential finds its client", credentialFinds},
	{"a credential expires", credentialExpires},
	{"a credential belongs to one client", credentialOnce},
	{"credentials of the ACME door", credentialACME},
	{"a credential moves to another account key", credentialMoves},
	{"use of a credential", credentialUse},
	{"expired enrolment secrets are cleared", credentialCleared},
	{"enrolment registers key and recipients", enrollRegisters},
	{"enrolment can be retried with the same key", enrollRetry},
	{"a spent secret is refused to another key", enrollReplay},
	{"an expired secret is refused", enrollExpired},
	{"a key of another client is refused", enrollForeignKey},
	{"a disabled client's enrolment spends nothing", enrollDisabled},
	{"recipients that cannot be stored spend nothing", enrollBadRecipient},
}

func credentialFinds(t *testing.T, f *fixture) { // A21
	ctx := t.Context()
	c := f.client(t, "web1")
	added := must(f.AddCredential(ctx, clients.Credential{ClientID: c.ID, Kind: clients.TLSKey, Verifier: hash("key")}))(t)
	equal(t, added.CreatedAt, f.clock.Now())
	equal(t, added.ExpiresAt, time.Time{})
	client, cred, err := f.ClientByCredential(ctx, clients.TLSKey, hash("key"))
	ok(t, err)
	equal(t, client, c)
	equal(t, cred, added)
	equal(t, must(f.Credentials(ctx, c.ID))(t), []clients.Credential{added})
	_, _, err = f.ClientByCredential(ctx, clients.Bearer, hash("key")) // a hash proves only its own kind
	wantErr(t, err, managed.ErrNotFound)
	_, _, err = f.ClientByCredential(ctx, clients.TLSKey, nil)
	wantErr(t, err, managed.ErrNotFound)
	for _, id := range []string{"", "unknown"} {
		_, err = f.AddCredential(ctx, clients.Credential{ClientID: id, Kind: clients.TLSKey, Verifier: hash("k2")})
		wantErr(t, err, managed.ErrNotFound)
	}
	for _, bad := range []clients.Credential{{ClientID: c.ID, Kind: "password", Verifier: hash("x")}, {ClientID: c.ID, Kind: clients.Bearer}} {
		if _, err := f.AddCredential(ctx, bad); err == nil {
			t.Errorf("stored %+v", bad)
		}
	}
}

func credentialExpires(t *testing.T, f *fixture) {
	ctx := t.Context()
	c := f.client(t, "web1")
	must(f.AddCredential(ctx, clients.Credential{ClientID: c.ID, Kind: clients.Bearer, Verifier: hash("t"), ExpiresAt: f.clock.Now().Add(time.Hour)}))(t)
	f.clock.Advance(time.Hour - time.Millisecond)
	_, _, err := f.ClientByCredential(ctx, clients.Bearer, hash("t"))
	ok(t, err)
	f.clock.Advance(time.Millisecond)
	_, _, err = f.ClientByCredential(ctx, clients.Bearer, hash("t"))
	wantErr(t, err, managed.ErrNotFound)
	equal(t, len(must(f.Credentials(ctx, c.ID))(t)), 1) // still listed for the operator
}

// X25: a credential has networks, is found by its ID, and is removed alone or replaced
// together with those of its door.
func credentialACME(t *testing.T, f *fixture) {
	ctx := t.Context()
	a, b := f.client(t, "a"), f.client(t, "b")
	bearer := must(f.AddCredential(ctx, clients.Credential{ClientID: a.ID, Kind: clients.Bearer, Verifier: hash("t")}))(t)
	first := must(f.AddCredential(ctx, clients.Credential{
		ClientID: a.ID, Kind: clients.ACMEDirectory, Verifier: hash("d"), Networks: []string{"10.0.0.0/8", "2001:db8::/32"},
		ExpiresAt: f.clock.Now().Add(time.Hour),
	}))(t)
	equal(t, first.Networks, []string{"10.0.0.0/8", "2001:db8::/32"})
	other := must(f.AddCredential(ctx, clients.Credential{ClientID: b.ID, Kind: clients.ACMEBinding, Verifier: hash("e")}))(t)
	f.clock.Advance(2 * time.Hour)
	client, cred, err := f.ClientByCredentialID(ctx, first.ID) // expired, which the caller decides about
	ok(t, err)
	equal(t, client, a)
	equal(t, cred, first)
	second, removed, err := f.ReplaceACME(ctx, clients.Credential{ClientID: a.ID, Kind: clients.ACMEKey, Verifier: hash("k")})
	ok(t, err)
	equal(t, removed, []clients.Credential{first})
	equal(t, len(must(f.Credentials(ctx, a.ID))(t)), 2)
	_, _, err = f.ClientByCredentialID(ctx, first.ID)
	wantErr(t, err, managed.ErrNotFound)
	_, _, err = f.ReplaceACME(ctx, clients.Credential{ClientID: a.ID, Kind: clients.ACMEBinding, Verifier: hash("e")})
	wantErr(t, err, managed.ErrConflict)
	for _, id := range []string{"", "unknown"} {
		_, _, err = f.ReplaceACME(ctx, clients.Credential{ClientID: id, Kind: clients.ACMEBinding, Verifier: hash("x")})
		wantErr(t, err, managed.ErrNotFound)
	}
	_, err = f.RemoveCredential(ctx, a.ID, other.ID)
	wantErr(t, err, managed.ErrNotFound)
	equal(t, must(f.RemoveCredential(ctx, a.ID, second.ID))(t), second)
	_, err = f.RemoveCredential(ctx, a.ID, second.ID)
	wantErr(t, err, managed.ErrNotFound)
	equal(t, must(f.Credentials(ctx, a.ID))(t), []clients.Credential{bearer})
	_, _, err = f.ClientByCredential(ctx, clients.ACMEBinding, hash("e"))
	ok(t, err)
}

// X25, C18: after a change of its account key, only the new key is a credential.
func credentialMoves(t *testing.T, f *fixture) {
	ctx := t.Context()
	a, b := f.client(t, "a"), f.client(t, "b")
	key := func(clientID, of string) clients.Credential {
		t.Helper()
		return must(f.AddCredential(ctx, clients.Credential{ClientID: clientID, Kind: clients.ACMEKey, Verifier: hash(of)}))(t)
	}
	find := func(of string) (id string) {
		t.Helper()
		_, c, err := f.ClientByCredential(ctx, clients.ACMEKey, hash(of))
		if err != nil {
			wantErr(t, err, managed.ErrNotFound)
		}
		return c.ID
	}
	one, two, foreign := key(a.ID, "k1"), key(a.ID, "k2"), key(b.ID, "k3")
	f.clock.Advance(time.Second) // so that the list has an order
	bearer := must(f.AddCredential(ctx, clients.Credential{ClientID: a.ID, Kind: clients.Bearer, Verifier: hash("k1")}))(t)
	for range 2 { // a client repeats it
		ok(t, f.MoveACMEKey(ctx, a.ID, hash("k1"), hash("new")))
		equal(t, []string{find("k1"), find("new")}, []string{"", one.ID})
	}
	wantErr(t, f.MoveACMEKey(ctx, a.ID, hash("new"), hash("k3")), managed.ErrConflict)
	ok(t, f.MoveACMEKey(ctx, a.ID, hash("none"), hash("k3"))) // an account that was registered otherwise
	ok(t, f.MoveACMEKey(ctx, a.ID, hash("k3"), hash("k4")))
	equal(t, []string{find("new"), find("k3"), find("k4")}, []string{one.ID, foreign.ID, ""})
	ok(t, f.MoveACMEKey(ctx, a.ID, hash("new"), hash("k2"))) // which the administrator registered before
	equal(t, []string{find("new"), find("k2")}, []string{"", two.ID})
	equal(t, must(f.Credentials(ctx, a.ID))(t), []clients.Credential{two, bearer})
	wantErr(t, f.MoveACMEKey(ctx, "unknown", hash("k2"), hash("k4")), managed.ErrNotFound)
}

// X25: the last use of a credential of the ACME door is known to the hour, and the kid of an
// older one after its next use. Credentials are listed by date.
func credentialUse(t *testing.T, f *fixture) {
	ctx := t.Context()
	a := f.client(t, "a")
	var all []clients.Credential
	for i := range 5 {
		c := clients.Credential{ClientID: a.ID, Kind: clients.ACMEBinding, Verifier: hash(string(rune('a' + i)))}
		if i > 0 {
			c.Kid = "kid" + string(rune('0'+i))
		}
		all = append(all, must(f.AddCredential(ctx, c))(t))
		f.clock.Advance(time.Second)
	}
	equal(t, must(f.Credentials(ctx, a.ID))(t), all)
	equal(t, all[1].Kid, "kid1")
	use := func(i int, kid, addr string) clients.Credential {
		t.Helper()
		_, c, err := f.ClientByCredentialID(ctx, all[i].ID)
		ok(t, err)
		ok(t, f.CredentialUsed(ctx, c, kid, addr))
		return must(f.Credentials(ctx, a.ID))(t)[i]
	}
	first := f.clock.Now()
	for i, kid := range []string{"kid0", "kid1"} {
		got := use(i, "kid0", "10.0.0.1")
		all[i].Kid, all[i].LastUsed, all[i].LastFrom = kid, first, "10.0.0.1"
		equal(t, got, all[i])
	}
	f.clock.Advance(59 * time.Minute)
	equal(t, use(0, "", "10.0.0.2"), all[0])
	f.clock.Advance(time.Minute)
	all[0].LastUsed, all[0].LastFrom = f.clock.Now(), "10.0.0.2"
	equal(t, use(0, "", "10.0.0.2"), all[0])
	ok(t, f.CredentialUsed(ctx, clients.Credential{ID: "removed"}, "", "10.0.0.2"))
}

func credentialOnce(t *testing.T, f *fixture) {
	ctx := t.Context()
	a, b := f.client(t, "a"), f.client(t, "b")
	must(f.AddCredential(ctx, clients.Credential{ClientID: a.ID, Kind: clients.TLSKey, Verifier: hash("k")}))(t)
	for _, id := range []string{a.ID, b.ID} {
		_, err := f.AddCredential(ctx, clients.Credential{ClientID: id, Kind: clients.TLSKey, Verifier: hash("k")})
		wantErr(t, err, managed.ErrConflict)
	}
	owner, _, err := f.ClientByCredential(ctx, clients.TLSKey, hash("k"))
	ok(t, err)
	equal(t, owner.ID, a.ID)
}

func credentialCleared(t *testing.T, f *fixture) {
	ctx := t.Context()
	c := f.withSecret(t, "web1", "old")
	f.clock.Advance(time.Hour)
	fresh := must(f.AddCredential(ctx, clients.Credential{ClientID: c.ID, Kind: clients.Enrolment, Verifier: hash("new"), ExpiresAt: f.clock.Now().Add(time.Hour)}))(t)
	equal(t, must(f.Credentials(ctx, c.ID))(t), []clients.Credential{fresh})
}

// withSecret creates a client that may enrol once.
func (f *fixture) withSecret(t *testing.T, name, secret string) clients.Client {
	t.Helper()
	return must(f.CreateClient(t.Context(), clients.Client{Name: name, Recipients: []string{"age1old"}},
		clients.Credential{Kind: clients.Enrolment, Verifier: hash(secret), ExpiresAt: f.clock.Now().Add(time.Hour)}))(t)
}

func key(name string) clients.Credential { return clients.Credential{Verifier: hash(name)} }

func enrollRegisters(t *testing.T, f *fixture) {
	ctx := t.Context()
	c := f.withSecret(t, "web1", "secret")
	got := must(f.Enroll(ctx, hash("secret"), key("k"), []string{"age1new", "age1old", "age1new"}))(t)
	c.Recipients = []string{"age1old", "age1new"}
	equal(t, got, c)
	equal(t, must(f.ClientByID(ctx, c.ID))(t), c)
	found, cred, err := f.ClientByCredential(ctx, clients.TLSKey, hash("k"))
	ok(t, err)
	equal(t, found, c)
	equal(t, must(f.Credentials(ctx, c.ID))(t), []clients.Credential{cred}) // the spent secret is not one any more
	_, _, err = f.ClientByCredential(ctx, clients.Enrolment, hash("secret"))
	wantErr(t, err, managed.ErrNotFound)
}

func enrollRetry(t *testing.T, f *fixture) {
	ctx := t.Context()
	c := f.withSecret(t, "web1", "secret")
	first := must(f.Enroll(ctx, hash("secret"), key("k"), []string{"age1new"}))(t)
	f.clock.Advance(59 * time.Minute)
	equal(t, must(f.Enroll(ctx, hash("secret"), key("k"), []string{"age1new"}))(t), first)
	equal(t, len(must(f.Credentials(ctx, c.ID))(t)), 1)
	f.clock.Advance(time.Minute)
	_, err := f.Enroll(ctx, hash("secret"), key("k"), nil)
	wantErr(t, err, managed.ErrNotFound)
}

func enrollReplay(t *testing.T, f *fixture) {
	ctx := t.Context()
	c := f.withSecret(t, "web1", "secret")
	want := must(f.Enroll(ctx, hash("secret"), key("k"), nil))(t)
	_, err := f.Enroll(ctx, hash("secret"), key("thief"), []string{"age1thief"})
	wantErr(t, err, managed.ErrNotFound)
	_, _, err = f.ClientByCredential(ctx, clients.TLSKey, hash("thief"))
	wantErr(t, err, managed.ErrNotFound)
	equal(t, must(f.ClientByID(ctx, c.ID))(t), want)
	_, err = f.Enroll(ctx, hash("guess"), key("k2"), nil)
	wantErr(t, err, managed.ErrNotFound)
	// Another kind of credential is no enrolment secret.
	must(f.AddCredential(ctx, clients.Credential{ClientID: c.ID, Kind: clients.Bearer, Verifier: hash("token")}))(t)
	_, err = f.Enroll(ctx, hash("token"), key("k3"), nil)
	wantErr(t, err, managed.ErrNotFound)
	if _, err := f.Enroll(ctx, hash("secret"), clients.Credential{}, nil); err == nil {
		t.Fatal("an empty key was enrolled")
	}
}

func enrollExpired(t *testing.T, f *fixture) {
	ctx := t.Context()
	f.withSecret(t, "web1", "secret")
	f.clock.Advance(time.Hour)
	_, err := f.Enroll(ctx, hash("secret"), key("k"), nil)
	wantErr(t, err, managed.ErrNotFound)
	_, _, err = f.ClientByCredential(ctx, clients.TLSKey, hash("k"))
	wantErr(t, err, managed.ErrNotFound)
}

func enrollForeignKey(t *testing.T, f *fixture) {
	ctx := t.Context()
	a := f.withSecret(t, "a", "secret-a")
	f.withSecret(t, "b", "secret-b")
	must(f.Enroll(ctx, hash("secret-a"), key("k"), nil))(t)
	_, err := f.Enroll(ctx, hash("secret-b"), key("k"), []string{"age1x"})
	wantErr(t, err, managed.ErrConflict)
	owner, _, err := f.ClientByCredential(ctx, clients.TLSKey, hash("k"))
	ok(t, err)
	equal(t, owner.ID, a.ID)
	must(f.Enroll(ctx, hash("secret-b"), key("k2"), nil))(t) // the secret was not used up
	// A client's own key may be enrolled again with a further secret.
	must(f.AddCredential(ctx, clients.Credential{ClientID: a.ID, Kind: clients.Enrolment, Verifier: hash("secret-c")}))(t)
	must(f.Enroll(ctx, hash("secret-c"), key("k"), nil))(t)
	equal(t, len(must(f.Credentials(ctx, a.ID))(t)), 1)
}

func enrollDisabled(t *testing.T, f *fixture) {
	ctx := t.Context()
	c := f.withSecret(t, "a", "secret")
	ok(t, f.SetClientDisabled(ctx, c.ID, true))
	c.Disabled = true
	before := must(f.Credentials(ctx, c.ID))(t)
	got, err := f.Enroll(ctx, hash("secret"), key("k"), []string{"age1new"})
	wantErr(t, err, managed.ErrDisabled)
	equal(t, got.Name, "a") // for the audit trail
	equal(t, must(f.ClientByID(ctx, c.ID))(t), c)
	equal(t, must(f.Credentials(ctx, c.ID))(t), before)
	_, _, err = f.ClientByCredential(ctx, clients.TLSKey, hash("k"))
	wantErr(t, err, managed.ErrNotFound)
	ok(t, f.SetClientDisabled(ctx, c.ID, false))
	must(f.Enroll(ctx, hash("secret"), key("k"), nil))(t) // the secret was not used up
}

func enrollBadRecipient(t *testing.T, f *fixture) {
	ctx := t.Context()
	f.withSecret(t, "a", "secret")
	if _, err := f.Enroll(ctx, hash("secret"), key("k"), []string{"two\nlines"}); err == nil {
		t.Fatal("stored")
	}
	must(f.Enroll(ctx, hash("secret"), key("k2"), nil))(t)
}
