package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/trail"
)

var registerCases = []testCase{
	{"requests are limited by client and names only", registerPaused},
	{"failures outlive their row", registerFailures},
	{"asking again is counted", registerAskAgain},
	{"a client has a limit", registerLimit},
	{"a name passes on from a client that does not hold it", registerSuperseded},
	{"a name passes on from the proxy itself", registerSupersedesOwn},
	{"a name that is held stays", registerHeld},
	{"a new database has a default quota", registerNew},
}

const agentMode = "certificate-agent"

func (f *fixture) register(t *testing.T, r managed.Registration) managed.Certificate {
	t.Helper()
	r.Mode = agentMode
	return must2(f.Register(t.Context(), r))(t)
}

func registration(clientID, keyType string, names ...string) managed.Registration {
	return managed.Registration{
		Certificate: managed.Certificate{ClientID: clientID, Names: names, KeyType: keyType},
		Pause:       managed.Pause{Every: time.Hour, Spare: 1}, Tries: byPerson.Tries,
	}
}

func registerPaused(t *testing.T, f *fixture) {
	ctx := t.Context()
	x, y := f.client(t, "x"), f.client(t, "y")
	for name, again := range map[string]func(m managed.Certificate, i int) managed.Registration{
		"delete": func(m managed.Certificate, _ int) managed.Registration {
			ok(t, f.DeleteManaged(ctx, m.ID))
			return registration(x.ID, "ec256", "a.delete.example", "b.delete.example")
		},
		"keytype": func(_ managed.Certificate, i int) managed.Registration {
			return registration(x.ID, []string{"ec384", "ec256"}[i%2], "a.keytype.example", "b.keytype.example")
		},
		"profile": func(_ managed.Certificate, i int) managed.Registration {
			r := registration(x.ID, "ec256", "a.profile.example", "b.profile.example")
			r.Profile = []string{"shortlived", ""}[i%2]
			return r
		},
		"csr": func(_ managed.Certificate, i int) managed.Registration {
			r := registration(x.ID, "ec256", "a.csr.example", "b.csr.example")
			r.CSR = []byte{byte(i)}
			return r
		},
		"order of names": func(m managed.Certificate, _ int) managed.Registration {
			ok(t, f.DeleteManaged(ctx, m.ID))
			return registration(x.ID, "ec256", "b.order of names.example", "a.order of names.example")
		},
	} {
		orders := 1 // of the first request
		m := f.register(t, registration(x.ID, "ec256", "a."+name+".example", "b."+name+".example"))
		equal(t, m.DueAt, f.clock.Now())
		for i := range 20 {
			m = f.register(t, again(m, i))
			if m.DueAt.Equal(f.clock.Now()) {
				orders++
			} else {
				equal(t, m.DueAt, f.clock.Now().Add(time.Hour))
			}
		}
		equal(t, orders, 2)
		f.clock.Advance(time.Hour)
		m = f.register(t, again(m, 20))
		equal(t, m.DueAt, f.clock.Now())
		m = f.register(t, again(m, 21))
		equal(t, m.DueAt, f.clock.Now().Add(time.Hour)) // no more than two an hour
		ok(t, f.DeleteManaged(ctx, m.ID))
		m = f.register(t, registration(y.ID, "ec256", "a."+name+".example", "b."+name+".example"))
		equal(t, m.DueAt, f.clock.Now()) // another client has a count of its own
		ok(t, f.DeleteManaged(ctx, m.ID))
		f.clock.Advance(3 * time.Hour)
		m = f.register(t, registration(x.ID, "ec256", "a."+name+".example", "b."+name+".example"))
		equal(t, m.DueAt, f.clock.Now())
		ok(t, f.DeleteManaged(ctx, m.ID))
	}
}

func registerFailures(t *testing.T, f *fixture) {
	ctx := t.Context()
	x := f.client(t, "x")
	m := f.register(t, registration(x.ID, "ec256", "a.example"))
	for i := range 3 {
		f.claimOne(t, "w")
		ok(t, f.FailManaged(ctx, m.ID, "w", managed.Failure{Reason: fmt.Sprintf("failure %d", i), RetryAt: f.clock.Now()}))
	}
	f.claimOne(t, "w")
	ok(t, f.FailManaged(ctx, m.ID, "w", managed.Failure{Reason: "the last failure", RetryAt: f.clock.Now().Add(100 * time.Minute)}))
	ok(t, f.DeleteManaged(ctx, m.ID))
	f.clock.Advance(time.Minute)
	m = f.register(t, registration(x.ID, "ec384", "a.example"))
	equal(t, m.Failures, 4)
	equal(t, m.LastError, "the last failure")
	m = f.register(t, registration(x.ID, "ec256", "a.example"))
	equal(t, m.Failures, 4)
	f.clock.Advance(3 * time.Hour)
	f.complete(t, m.ID, "e1", false)
	f.clock.Advance(3 * time.Hour)
	m = f.register(t, registration(x.ID, "rsa2048", "a.example"))
	equal(t, m.Failures, 0)
	equal(t, m.DueAt, f.clock.Now())
}

func registerAskAgain(t *testing.T, f *fixture) {
	ctx := t.Context()
	x := f.client(t, "x")
	r := registration(x.ID, "ec256", "a.example")
	m := f.register(t, r)
	first := must(f.AskedAt(ctx, x.ID, m.Names))(t)
	equal(t, first, f.clock.Now())
	f.clock.Advance(time.Minute)
	ok(t, f.SetDue(ctx, m.ID, f.clock.Now().Add(time.Hour)))
	ok(t, f.AskAgain(ctx, m.ID, first, r.Pause))
	equal(t, must(f.ManagedByID(ctx, m.ID))(t).DueAt, f.clock.Now())
	wantErr(t, f.AskAgain(ctx, m.ID, first, r.Pause), managed.ErrStale) // of two at once, one is granted
	equal(t, must(f.AskedAt(ctx, x.ID, m.Names))(t), f.clock.Now())
	r.KeyType = "ec384"
	equal(t, f.register(t, r).DueAt, f.clock.Now().Add(59*time.Minute)) // and the spare one is gone
	wantErr(t, f.AskAgain(ctx, "none", first, r.Pause), managed.ErrNotFound)
}

func registerLimit(t *testing.T, f *fixture) {
	x, y := f.client(t, "x"), f.client(t, "y")
	for i := range 5 {
		f.register(t, registration(x.ID, "ec256", fmt.Sprintf("n%d.example", i)))
	}
	r := registration(x.ID, "ec256", "more.example")
	r.Mode, r.Limit = agentMode, 3 // it has more already, from the time before
	_, _, err := f.Register(t.Context(), r)
	wantErr(t, err, managed.ErrTooMany)
	equal(t, must(f.HasRoom(t.Context(), x.ID, 5))(t), false)
	equal(t, must(f.HasRoom(t.Context(), x.ID, 6))(t), true)
	equal(t, len(must(f.ListManaged(t.Context(), x.ID, "", "", 0))(t)), 5)
	again := registration(x.ID, "ec384", "n0.example")
	again.Limit = 3
	f.register(t, again) // those that it has stay its own
	r.ClientID = y.ID
	f.register(t, r) // and the refused request took no name
}

// handover is a registration that takes names from clients that are disabled.
func handover(clientID string, names ...string) managed.Registration {
	r := registration(clientID, "ec256", names...)
	r.Holds = func(owner clients.Client, _ string) bool { return !owner.Disabled }
	r.Audit = func(s managed.Superseded) trail.Entry {
		return trail.Entry{
			ClientID: s.Owner.ID, ClientName: s.Owner.Name, Names: s.Names, Outcome: "done", Detail: s.Name + " passed to " + s.To.Name,
		}
	}
	return r
}

func registerSuperseded(t *testing.T, f *fixture) {
	ctx := t.Context()
	x, y, z := f.client(t, "x"), f.client(t, "y"), f.client(t, "z")
	one := f.register(t, registration(x.ID, "ec256", "a.example"))
	two := f.register(t, registration(x.ID, "ec256", "a.example", "b.example"))
	other := f.register(t, registration(x.ID, "ec256", "c.example"))
	f.claim(t, "w") // work is under way
	ok(t, f.SaveOrder(ctx, "w", managed.Order{ManagedID: one.ID, URL: "u"}))
	ok(t, f.SetClientDisabled(ctx, x.ID, true))
	f.clock.Advance(time.Minute)
	m := f.register(t, handover(y.ID, "a.example", "0.example"))
	equal(t, m.DueAt, f.clock.Now())
	for _, id := range []string{one.ID, two.ID} {
		row := must(f.ManagedByID(ctx, id))(t)
		equal(t, row.SupersededAt, f.clock.Now())
		equal(t, row.DueAt.IsZero(), true)
		wantErr(t, f.CompleteManaged(ctx, "w", f.bundle(id, "late"), f.clock.Now(), false), managed.ErrLost)
		wantErr(t, f.SetDue(ctx, id, f.clock.Now()), managed.ErrNotFound)
		wantErr(t, f.AskAgain(ctx, id, f.clock.Now(), managed.Pause{}), managed.ErrNotFound)
	}
	equal(t, must(f.ManagedByID(ctx, other.ID))(t).SupersededAt.IsZero(), true)
	_, err := f.OrderFor(ctx, one.ID)
	wantErr(t, err, managed.ErrNotFound)
	n := auditCount(t, f, trail.Query{Client: "x"})
	equal(t, n, map[string]int{"a.example passed to y": 2})

	f.register(t, registration(z.ID, "ec256", "b.example"))  // which no row of x uses any more
	_, _, err = f.Register(ctx, handover(x.ID, "a.example")) // y holds it now
	wantErr(t, err, managed.ErrOwned)
	ok(t, f.DeleteManaged(ctx, one.ID)) // and takes nothing from y
	_, _, err = f.Register(ctx, registration(z.ID, "ec256", "a.example"))
	wantErr(t, err, managed.ErrOwned)
	ok(t, f.DeleteManaged(ctx, m.ID))
	ok(t, f.SetClientDisabled(ctx, z.ID, true))
	back := f.register(t, handover(x.ID, "a.example", "b.example")) // the row comes to life again
	equal(t, back.ID, two.ID)
	equal(t, back.SupersededAt.IsZero(), true)
	_, _, err = f.Register(ctx, registration(y.ID, "ec256", "b.example"))
	wantErr(t, err, managed.ErrOwned)
}

func registerSupersedesOwn(t *testing.T, f *fixture) {
	ctx := t.Context()
	y := f.client(t, "y")
	own := f.manage(t, "own.example")
	_, _, err := f.Register(ctx, handover(y.ID, "own.example"))
	wantErr(t, err, managed.ErrOwned)
	ok(t, f.SetDue(ctx, own.ID, time.Time{})) // it is not configured any more
	f.register(t, handover(y.ID, "own.example"))
	equal(t, must(f.ManagedByID(ctx, own.ID))(t).SupersededAt, f.clock.Now())
	ok(t, f.SetClientDisabled(ctx, y.ID, true)) // and back
	r := handover("", "own.example")
	r.Mode = own.Mode
	back := must2(f.Register(ctx, r))(t)
	equal(t, back.ID, own.ID)
	equal(t, back.SupersededAt.IsZero(), true)
}

func registerHeld(t *testing.T, f *fixture) {
	ctx := t.Context()
	x, y, z := f.client(t, "x"), f.client(t, "y"), f.client(t, "z")
	off := f.register(t, registration(x.ID, "ec256", "a.example"))
	f.register(t, registration(z.ID, "ec256", "b.example"))
	ok(t, f.SetClientDisabled(ctx, x.ID, true))
	_, _, err := f.Register(ctx, handover(y.ID, "a.example", "b.example"))
	wantErr(t, err, managed.ErrOwned) // of z, so nothing changes for x
	equal(t, must(f.ManagedByID(ctx, off.ID))(t).SupersededAt.IsZero(), true)
	equal(t, len(auditCount(t, f, trail.Query{})), 0)
	_, _, err = f.Register(ctx, registration(y.ID, "ec256", "a.example")) // without Holds a name never passes
	wantErr(t, err, managed.ErrOwned)
}

func registerNew(t *testing.T, f *fixture) {
	equal(t, must(f.WantsDefaultQuota(t.Context()))(t), true)
}
