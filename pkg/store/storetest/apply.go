package storetest

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/trail"
)

var applyCases = []testCase{
	{"clients are made to match", applyMatches},
	{"clients that are not named stay, or are removed", applyPrunes},
	{"a dry run plans the same and changes nothing", applyDryRun},
	{"recipients that hosts enrolled stay", applyRecipients},
	{"one that fails leaves all as they were", applyAllOrNothing},
	{"each change is in the audit trail, or is rolled back", applyAudits},
	{"two that apply together give what one of them says", raceApply},
	{"what is applied and what is enrolled meanwhile are both kept", raceApplyEnroll},
}

func wanted(name string, patterns ...string) clients.Client {
	return clients.Client{Name: name, Grants: []clients.Grant{{Names: patterns, Modes: []clients.Mode{"agent"}}}}
}

// actions are the changes in short, in their order.
func actions(a clients.Applied) (short []string) {
	for _, c := range a.Changes {
		short = append(short, string(c.Action)+" "+c.Name)
	}
	return short
}

func (f *fixture) names(t *testing.T) (names []string) {
	t.Helper()
	for _, c := range must(f.Clients(t.Context(), "", 1000))(t) {
		names = append(names, c.Name)
	}
	return names
}

func applyMatches(t *testing.T, f *fixture) {
	ctx := t.Context()
	same := must(f.CreateClient(ctx, wanted("same", "same.example")))(t)
	other := must(f.CreateClient(ctx, wanted("other", "other.example"), clients.Credential{Kind: clients.Bearer, Verifier: hash("t")}))(t)
	want := []clients.Client{wanted("other", "narrow.example"), wanted("same", "same.example"), wanted("new", "new.example")}
	want[0].Grants = append(want[0].Grants, clients.Grant{Names: []string{"b.example"}, Networks: []string{"10.0.0.0/8"}, KeyTypes: []string{"ec256"}, DailyQuota: 3})
	want[2].Disabled, want[2].Recipients = true, []string{"age1a", "age1b", "age1a"}

	got := must(f.ApplyClients(ctx, clients.Apply{Clients: want}, nil))(t)

	equal(t, actions(got), []string{"add new", "change other"})
	equal(t, got.Unchanged, 1)
	equal(t, got.Left, nil)
	equal(t, got.Changes[1].Before, other)
	changed := must(f.ClientByName(ctx, "other"))(t)
	equal(t, got.Changes[1].After, changed)
	equal(t, changed.Grants, want[0].Grants)
	equal(t, changed.ID, other.ID)
	equal(t, changed.CreatedAt, other.CreatedAt)
	added := must(f.ClientByName(ctx, "new"))(t)
	equal(t, got.Changes[0].After, added)
	equal(t, added.Disabled, true)
	equal(t, added.Recipients, []string{"age1a", "age1b"})
	equal(t, added.Grants, want[2].Grants)
	equal(t, len(must(f.Credentials(ctx, added.ID))(t)), 0) // nothing to act with
	equal(t, must(f.ClientByName(ctx, "same"))(t), same)
	_, _, err := f.ClientByCredential(ctx, clients.Bearer, hash("t")) // stays
	ok(t, err)

	again := must(f.ApplyClients(ctx, clients.Apply{Clients: want, Prune: true}, nil))(t)
	equal(t, actions(again), nil)
	equal(t, again.Unchanged, 3)

	// Each field alone is a difference, once.
	for i, change := range []func(*clients.Client){
		func(c *clients.Client) { c.Disabled = true },
		func(c *clients.Client) { c.Recipients = []string{"age1x"} },
		func(c *clients.Client) { c.Grants[0].Names = []string{"x.example"} },
		func(c *clients.Client) { c.Grants[0].Modes = []clients.Mode{"gateway"} },
		func(c *clients.Client) { c.Grants[0].Networks = []string{"192.0.2.0/24"} },
		func(c *clients.Client) { c.Grants[0].KeyTypes = []string{"rsa2048"} },
		func(c *clients.Client) { c.Grants[0].Profiles = []string{"shortlived"} },
		func(c *clients.Client) { c.Grants[0].MaxNames = 9 },
		func(c *clients.Client) { c.Grants[0].DailyQuota = 9 },
		func(c *clients.Client) { c.Grants = append(c.Grants, clients.Grant{}) },
		func(c *clients.Client) { c.Grants = nil },
	} {
		change(&want[1])
		for _, n := range []int{1, 0} {
			if got := must(f.ApplyClients(ctx, clients.Apply{Clients: want}, nil))(t); len(got.Changes) != n {
				t.Errorf("difference %d: %v, want %d changes", i, actions(got), n)
			}
		}
		now := must(f.ClientByName(ctx, "same"))(t)
		equal(t, now.Grants, want[1].Grants)
		equal(t, now.Disabled, true)
	}
}

func applyPrunes(t *testing.T, f *fixture) {
	ctx := t.Context()
	gone := must(f.CreateClient(ctx, wanted("gone", "gone.example"), clients.Credential{Kind: clients.Bearer, Verifier: hash("t")}))(t)
	f.client(t, "also")
	for _, name := range []string{"a.gone.example", "b.gone.example"} {
		must2(f.EnsureManaged(ctx, managed.Certificate{ClientID: gone.ID, Mode: "certificate-agent", Names: []string{name}}))(t)
	}
	own := f.manage(t, "proxy.example")
	keep := []clients.Client{wanted("keep", "keep.example")}

	got := must(f.ApplyClients(ctx, clients.Apply{Clients: keep}, nil))(t)
	equal(t, actions(got), []string{"add keep"})
	equal(t, got.Left, []string{"also", "gone"})
	equal(t, f.names(t), []string{"also", "gone", "keep"})

	got = must(f.ApplyClients(ctx, clients.Apply{Clients: keep, Prune: true}, nil))(t)
	equal(t, actions(got), []string{"remove also", "remove gone"})
	equal(t, got.Changes[0].Certificates, int64(0))
	equal(t, got.Changes[1].Certificates, int64(2))
	equal(t, got.Changes[1].Before, gone)
	equal(t, f.names(t), []string{"keep"})
	equal(t, len(must(f.ListManaged(ctx, gone.ID, "", "", 0))(t)), 0)
	_, _, err := f.ClientByCredential(ctx, clients.Bearer, hash("t"))
	wantErr(t, err, managed.ErrNotFound)
	stays := must(f.ClientByName(ctx, "keep"))(t)
	must2(f.EnsureManaged(ctx, managed.Certificate{ClientID: stays.ID, Names: []string{"a.gone.example"}}))(t) // A24: the name is free
	must(f.ManagedByID(ctx, own.ID))(t)                                                                        // no client's

	got = must(f.ApplyClients(ctx, clients.Apply{Prune: true}, nil))(t)
	equal(t, actions(got), []string{"remove keep"})
}

func applyDryRun(t *testing.T, f *fixture) {
	ctx := t.Context()
	old := f.client(t, "old")
	must2(f.EnsureManaged(ctx, managed.Certificate{ClientID: old.ID, Names: []string{"old.example"}}))(t)
	before := must(f.CreateClient(ctx, wanted("web1", "web1.example")))(t)
	a := clients.Apply{
		Clients: []clients.Client{wanted("web1", "other.example"), wanted("new", "n.example")}, Prune: true, DryRun: true,
	}
	audit := func(clients.Change) trail.Entry { return trail.Entry{Outcome: trail.Done} }
	plan := must(f.ApplyClients(ctx, a, audit))(t)
	equal(t, actions(plan), []string{"add new", "remove old", "change web1"})
	equal(t, plan.Changes[1].Certificates, int64(1))
	equal(t, f.names(t), []string{"old", "web1"})
	equal(t, must(f.ClientByName(ctx, "web1"))(t), before)
	equal(t, len(must(f.Audit(ctx, trail.Query{}))(t)), 0)

	a.DryRun = false
	equal(t, actions(must(f.ApplyClients(ctx, a, audit))(t)), actions(plan))
	equal(t, f.names(t), []string{"new", "web1"})
}

func applyRecipients(t *testing.T, f *fixture) {
	ctx := t.Context()
	c := f.withSecret(t, "web1", "secret")
	must(f.Enroll(ctx, hash("secret"), key("k"), []string{"age1host"}))(t)
	have := must(f.ClientByID(ctx, c.ID))(t)
	want := clients.Client{Name: "web1", Grants: have.Grants, Recipients: []string{"age1ops"}}
	got := must(f.ApplyClients(ctx, clients.Apply{Clients: []clients.Client{want}}, nil))(t)
	equal(t, actions(got), []string{"change web1"})
	equal(t, must(f.ClientByID(ctx, c.ID))(t).Recipients, append(slices.Clone(have.Recipients), "age1ops"))
	equal(t, actions(must(f.ApplyClients(ctx, clients.Apply{Clients: []clients.Client{want}}, nil))(t)), nil)

	// With those of the file, there may be as many as can be sealed to.
	for i := range 64 {
		want.Recipients = append(want.Recipients, fmt.Sprintf("age1n%d", i))
	}
	_, err := f.ApplyClients(ctx, clients.Apply{Clients: []clients.Client{want}}, nil)
	wantErr(t, err, managed.ErrTooMany)
}

func applyAllOrNothing(t *testing.T, f *fixture) {
	ctx := t.Context()
	f.client(t, "old")
	before := must(f.CreateClient(ctx, wanted("web1", "web1.example")))(t)
	tooMany := wanted("many", "m.example")
	for i := range 65 {
		tooMany.Recipients = append(tooMany.Recipients, fmt.Sprintf("age1n%d", i))
	}
	for _, bad := range []clients.Client{
		{Name: ""},
		{Name: "web1"}, // twice
		{Name: "zz", Recipients: []string{"two\nlines"}},
		{Name: "zz", Grants: []clients.Grant{{Names: []string{""}}}},
		tooMany,
	} {
		a := clients.Apply{
			Clients: []clients.Client{wanted("web1", "other.example"), wanted("new", "n.example"), bad}, Prune: true,
		}
		audit := func(clients.Change) trail.Entry { return trail.Entry{Outcome: trail.Done} }
		if _, err := f.ApplyClients(ctx, a, audit); err == nil {
			t.Fatalf("applied %+v", bad)
		}
		equal(t, f.names(t), []string{"old", "web1"})
		equal(t, must(f.ClientByName(ctx, "web1"))(t), before)
		equal(t, len(must(f.Audit(ctx, trail.Query{}))(t)), 0)
	}
	// A client that exists and fails late, after others were changed.
	bad := wanted("web1", "x.example")
	bad.Recipients = []string{"two\nlines"}
	_, err := f.ApplyClients(ctx, clients.Apply{Clients: []clients.Client{wanted("aa", "a.example"), bad}}, nil)
	if err == nil {
		t.Fatal("a recipient of two lines was stored")
	}
	equal(t, f.names(t), []string{"old", "web1"})
	// Every fault is in the error.
	_, err = f.ApplyClients(ctx, clients.Apply{Clients: []clients.Client{tooMany, {}, wanted("a"), wanted("a")}}, nil)
	wantErr(t, err, managed.ErrTooMany)
	if got := len(err.Error()); got < 100 {
		t.Errorf("not every fault is named: %v", err)
	}
}

func applyAudits(t *testing.T, f *fixture) { // X14
	ctx := t.Context()
	f.client(t, "old")
	f.client(t, "web1")
	a := clients.Apply{Clients: []clients.Client{wanted("web1", "a.example"), wanted("new", "n.example")}, Prune: true}
	audit := func(c clients.Change) trail.Entry {
		return trail.Entry{ClientID: c.Before.ID + c.After.ID, ClientName: c.Name, Action: string(c.Action), Outcome: trail.Done}
	}
	for range 2 { // the second changes nothing
		must(f.ApplyClients(ctx, a, audit))(t)
		var got []string
		for _, e := range must(f.Audit(ctx, trail.Query{}))(t) {
			got = append(got, e.Action+" "+e.ClientName)
			equal(t, e.At, f.clock.Now())
			if e.ClientID == "" {
				t.Errorf("%s has no id in the trail", e.ClientName)
			}
		}
		equal(t, got, []string{"change web1", "remove old", "add new"}) // newest first
	}
}

func raceApply(t *testing.T, f *fixture) {
	ctx := t.Context()
	for range 5 {
		each(func(i int) {
			var want []clients.Client
			for n := range 10 {
				want = append(want, wanted(fmt.Sprintf("c%d", (n+i)%12), fmt.Sprintf("w%d.example", i)))
			}
			if _, err := f.ApplyClients(ctx, clients.Apply{Clients: want, Prune: true}, nil); err != nil {
				t.Error(err)
			}
		})
		all := must(f.Clients(ctx, "", 0))(t)
		equal(t, len(all), 10)
		for _, c := range all {
			equal(t, c.Grants, all[0].Grants) // all of one of them
		}
	}
}

func raceApplyEnroll(t *testing.T, f *fixture) {
	ctx := t.Context()
	for round := range 5 {
		name, secret := fmt.Sprintf("web%d", round), fmt.Sprintf("secret%d", round)
		c := f.withSecret(t, name, secret)
		before := len(must(f.ClientByID(ctx, c.ID))(t).Recipients)
		each(func(i int) {
			switch i {
			case 0:
				if _, err := f.Enroll(ctx, hash(secret), key(secret), []string{"age1host"}); err != nil {
					t.Error(err)
				}
			case 1: // a client that comes into being meanwhile
				_, err := f.CreateClient(ctx, wanted(fmt.Sprintf("new%d", round), "n.example"))
				if err != nil && !errors.Is(err, managed.ErrConflict) {
					t.Error(err)
				}
			case 2, 3:
				want := []clients.Client{wanted(name, "applied.example"), wanted(fmt.Sprintf("new%d", round), "n.example")}
				want[0].Recipients = []string{"age1ops"}
				if _, err := f.ApplyClients(ctx, clients.Apply{Clients: want}, nil); err != nil {
					t.Error(err)
				}
			default:
				_, _, err := f.EnsureManaged(ctx, managed.Certificate{ClientID: c.ID, Names: []string{fmt.Sprintf("r%d-%d.example", round, i)}})
				if err != nil {
					t.Error(err)
				}
			}
		})
		got := must(f.ClientByID(ctx, c.ID))(t)
		equal(t, got.Grants, wanted(name, "applied.example").Grants)
		if len(got.Recipients) != before+2 || !slices.Contains(got.Recipients, "age1host") || !slices.Contains(got.Recipients, "age1ops") {
			t.Errorf("recipients %v", got.Recipients)
		}
		_, _, err := f.ClientByCredential(ctx, clients.TLSKey, key(secret).Verifier)
		ok(t, err)
	}
}
