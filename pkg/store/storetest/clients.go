package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/trail"
)

var clientCases = []testCase{
	{"a client is read back whole", clientWhole},
	{"a name is given once", clientNameOnce},
	{"a failed creation leaves nothing", clientAllOrNothing},
	{"lists are paged by name", clientPages},
	{"disabling keeps the rows", clientDisable},
	{"removal takes all but the audit trail", clientRemove},
	{"a list entry that cannot be stored is refused", clientBadEntry},
}

func clientWhole(t *testing.T, f *fixture) {
	ctx := t.Context()
	want := clients.Client{
		Name:       "web1",
		Recipients: []string{"age1abc", "ssh-ed25519 AAAA root@web1"},
		Grants: []clients.Grant{
			{Names: []string{"web1.example.com", "**.web1.example.com"}, Modes: []clients.Mode{"certificate-agent"}, Networks: []string{"10.0.0.0/8"}, KeyTypes: []string{"ec256"}, Profiles: []string{"default", "shortlived"}, MaxNames: 5, DailyQuota: 10},
			{Names: []string{"wildcard:*.example.com"}},
			{},
		},
	}
	got := must(f.CreateClient(ctx, want))(t)
	if len(got.ID) != 26 {
		t.Fatalf("id is %q, want 26 characters", got.ID)
	}
	want.ID, want.CreatedAt = got.ID, f.clock.Now()
	equal(t, got, want)
	equal(t, must(f.ClientByName(ctx, "web1"))(t), want)
	equal(t, must(f.ClientByID(ctx, want.ID))(t), want)
	equal(t, must(f.Clients(ctx, "", 0))(t), []clients.Client{want})
	for _, missing := range []string{"", "web2", want.ID} {
		_, err := f.ClientByName(ctx, missing)
		wantErr(t, err, managed.ErrNotFound)
	}
	_, err := f.ClientByID(ctx, "web1")
	wantErr(t, err, managed.ErrNotFound)
}

func clientNameOnce(t *testing.T, f *fixture) {
	ctx := t.Context()
	first := f.client(t, "web1")
	_, err := f.CreateClient(ctx, clients.Client{Name: "web1"})
	wantErr(t, err, managed.ErrConflict)
	equal(t, must(f.ClientByName(ctx, "web1"))(t).ID, first.ID)
	if _, err := f.CreateClient(ctx, clients.Client{}); err == nil {
		t.Fatal("a client without a name was created")
	}
}

func clientAllOrNothing(t *testing.T, f *fixture) {
	ctx := t.Context()
	cred := clients.Credential{Kind: clients.Bearer, Verifier: hash("token")}
	must(f.CreateClient(ctx, clients.Client{Name: "a"}, cred))(t)
	_, err := f.CreateClient(ctx, clients.Client{Name: "b"}, clients.Credential{Kind: clients.Bearer, Verifier: hash("fresh")}, cred)
	wantErr(t, err, managed.ErrConflict)
	_, err = f.ClientByName(ctx, "b")
	wantErr(t, err, managed.ErrNotFound)
	_, _, err = f.ClientByCredential(ctx, clients.Bearer, hash("fresh"))
	wantErr(t, err, managed.ErrNotFound)
}

func clientPages(t *testing.T, f *fixture) {
	ctx := t.Context()
	var want []string
	for i := range 7 {
		name := fmt.Sprintf("c%d", i)
		must(f.CreateClient(ctx, clients.Client{Name: name, Grants: make([]clients.Grant, i%3)}))(t)
		want = append(want, name)
	}
	var got []string
	after := ""
	for {
		page := must(f.Clients(ctx, after, 3))(t)
		if len(page) == 0 {
			break
		}
		for i, c := range page {
			equal(t, len(c.Grants), (len(got)+i)%3) // a page is counted in clients, not in grants
		}
		for _, c := range page {
			got = append(got, c.Name)
		}
		after = got[len(got)-1]
	}
	equal(t, got, want)
}

func clientDisable(t *testing.T, f *fixture) {
	ctx := t.Context()
	c := must(f.CreateClient(ctx, clients.Client{Name: "web1"}, clients.Credential{Kind: clients.Bearer, Verifier: hash("t")}))(t)
	ok(t, f.SetClientDisabled(ctx, c.ID, true))
	found, _, err := f.ClientByCredential(ctx, clients.Bearer, hash("t"))
	ok(t, err)
	equal(t, found.Disabled, true) // returned, for the caller to refuse and audit
	ok(t, f.SetClientDisabled(ctx, c.ID, false))
	equal(t, must(f.ClientByID(ctx, c.ID))(t).Disabled, false)
	wantErr(t, f.SetClientDisabled(ctx, "unknown", true), managed.ErrNotFound)
}

func clientRemove(t *testing.T, f *fixture) {
	ctx := t.Context()
	gone := must(f.CreateClient(ctx, clients.Client{Name: "gone", Grants: make([]clients.Grant, 2)},
		clients.Credential{Kind: clients.Bearer, Verifier: hash("t")}))(t)
	stays := f.client(t, "stays")
	m := must2(f.EnsureManaged(ctx, managed.Certificate{ClientID: gone.ID, Mode: "certificate-agent", Names: []string{"gone.example"}}))(t)
	other := must2(f.EnsureManaged(ctx, managed.Certificate{ClientID: stays.ID, Mode: "certificate-agent", Names: []string{"stays.example"}}))(t)
	must(f.TakeQuota(ctx, gone.ID, f.clock.Now(), 1))(t)
	ok(t, f.AppendAudit(ctx, trail.Entry{ClientID: gone.ID, ClientName: "gone", Action: "x", Outcome: "done"}))
	f.claim(t, "w")
	ok(t, f.CompleteManaged(ctx, "w", f.bundle(m.ID, "e1"), f.clock.Now(), true))
	f.claim(t, "w")
	ok(t, f.SaveOrder(ctx, "w", managed.Order{ManagedID: m.ID, URL: "u"}))
	for _, l := range f.lookups() {
		ok(t, l.run(ctx, m.ID))
	}

	ok(t, f.RemoveClient(ctx, gone.ID))

	for _, l := range f.lookups() {
		wantErr(t, l.run(ctx, m.ID), managed.ErrNotFound)
	}
	_, _, err := f.ClientByCredential(ctx, clients.Bearer, hash("t"))
	wantErr(t, err, managed.ErrNotFound)
	wantErr(t, f.CompleteManaged(ctx, "w", f.bundle(m.ID, "e2"), time.Time{}, true), managed.ErrLost)
	_, _, err = f.EnsureManaged(ctx, managed.Certificate{ClientID: gone.ID, Names: []string{"gone.example"}})
	wantErr(t, err, managed.ErrNotFound)
	equal(t, len(must(f.Audit(ctx, trail.Query{Client: "gone"}))(t)), 1) // X14: the trail outlives the client
	must(f.ManagedByID(ctx, other.ID))(t)
	must2(f.EnsureManaged(ctx, managed.Certificate{ClientID: stays.ID, Names: []string{"gone.example"}}))(t) // the name is free
	again := f.client(t, "gone")
	equal(t, len(again.Grants), 0)
	wantErr(t, f.RemoveClient(ctx, gone.ID), managed.ErrNotFound)
}

func clientBadEntry(t *testing.T, f *fixture) {
	ctx := t.Context()
	for _, entry := range []string{"", "two\nlines", "nul\x00", "\xff"} {
		if _, err := f.CreateClient(ctx, clients.Client{Name: "a", Recipients: []string{entry}}); err == nil {
			t.Errorf("recipient %q was stored", entry)
		}
		if _, err := f.CreateClient(ctx, clients.Client{Name: "a", Grants: []clients.Grant{{Names: []string{entry}}}}); err == nil {
			t.Errorf("pattern %q was stored", entry)
		}
		if _, _, err := f.EnsureManaged(ctx, managed.Certificate{Names: []string{entry}}); err == nil {
			t.Errorf("name %q was stored", entry)
		}
	}
	_, err := f.ClientByName(ctx, "a")
	wantErr(t, err, managed.ErrNotFound)
}

// must2 is must for EnsureManaged.
func must2(m managed.Certificate, _ bool, err error) func(*testing.T) managed.Certificate {
	return must(m, err)
}
