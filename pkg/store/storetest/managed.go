package storetest

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
)

var managedCases = []testCase{
	{"a managed certificate is read back whole", managedWhole},
	{"a repetition changes nothing", managedIdempotent},
	{"another specification is due now", managedRespecified},
	{"a name has one owner", managedOwned},
	{"a name is released with its last certificate", managedReleased},
	{"a certificate of several hosts is not deleted for one", managedShared},
	{"a name is stored with a new row, or on purpose", managedNamed},
	{"lists are paged by id", managedPages},
	{"a hundred long names fit", managedLongNames},
	{"a bundle replaces the old one", bundleReplaced},
	{"a revoked certificate is due, and one serial only", managedRevoked},
	{"a CSR of a compromised key is not used again", managedRevokedCSR},
	{"a row whose certificate is revoked is deleted, and no newer one", managedRevokedDeleted},
	{"a wanted revocation stays until its result", revocationWanted},
	{"an order is journalled while the lease is held", orderJournal},
}

func managedWhole(t *testing.T, f *fixture) {
	ctx := t.Context()
	c := f.client(t, "web1")
	want := managed.Certificate{
		ClientID: c.ID, Mode: "certificate-agent", Names: []string{"a.example", "*.a.example"},
		KeyType: "ec384", Profile: "shortlived", CSR: []byte{0x30, 0, 0xff},
	}
	got, created, err := f.EnsureManaged(ctx, want)
	ok(t, err)
	equal(t, created, true)
	want.ID, want.DueAt, want.CreatedAt, want.UpdatedAt = got.ID, f.clock.Now(), f.clock.Now(), f.clock.Now()
	equal(t, got, want)
	equal(t, must(f.ManagedByID(ctx, got.ID))(t), want)
	equal(t, must(f.ManagedByNames(ctx, c.ID, want.Mode, []string{"*.a.example", "a.example"}))(t), want)
	for _, miss := range []managed.Certificate{
		{ClientID: "", Mode: want.Mode, Names: want.Names},
		{ClientID: c.ID, Mode: "acme-client", Names: want.Names},
		{ClientID: c.ID, Mode: want.Mode, Names: want.Names[:1]},
	} {
		_, err := f.ManagedByNames(ctx, miss.ClientID, miss.Mode, miss.Names)
		wantErr(t, err, managed.ErrNotFound)
	}
	_, err = f.ManagedByID(ctx, "none")
	wantErr(t, err, managed.ErrNotFound)
	_, _, err = f.EnsureManaged(ctx, managed.Certificate{ClientID: "unknown", Names: []string{"b.example"}})
	wantErr(t, err, managed.ErrNotFound)
	if _, _, err := f.EnsureManaged(ctx, managed.Certificate{}); err == nil {
		t.Fatal("a certificate without names is managed")
	}
}

func managedIdempotent(t *testing.T, f *fixture) { // A25
	ctx := t.Context()
	m := f.manage(t, "a.example")
	f.complete(t, m.ID, "e1", false)
	want := must(f.ManagedByID(ctx, m.ID))(t)
	f.clock.Advance(time.Hour)
	got, created, err := f.EnsureManaged(ctx, managed.Certificate{Mode: m.Mode, Names: m.Names, KeyType: m.KeyType})
	ok(t, err)
	equal(t, created, false)
	equal(t, got, want)
	equal(t, len(f.claim(t, "w")), 0) // no new order
}

func managedRespecified(t *testing.T, f *fixture) {
	ctx := t.Context()
	m := f.manage(t, "a.example")
	f.complete(t, m.ID, "e1", false)
	spec := managed.Certificate{Mode: m.Mode, Names: m.Names, KeyType: m.KeyType}
	for i, change := range []func(){
		func() { spec.KeyType = "rsa2048" },
		func() { spec.Profile = "shortlived" },
		func() { spec.CSR = []byte("csr") },
		func() { spec.CSR = nil },
	} {
		// A worker is busy with the old specification …
		ok(t, f.SetDue(ctx, m.ID, f.clock.Now()))
		f.claimOne(t, "w")
		ok(t, f.SaveOrder(ctx, "w", managed.Order{ManagedID: m.ID, URL: "old"}))
		f.clock.Advance(time.Second)
		change()
		got, created, err := f.EnsureManaged(ctx, spec)
		ok(t, err)
		if created || got.ID != m.ID || !got.DueAt.Equal(f.clock.Now()) || got.KeyType != spec.KeyType ||
			got.Profile != spec.Profile || !bytes.Equal(got.CSR, spec.CSR) || got.ETag != "e1" {
			t.Fatalf("change %d: %+v", i, got)
		}
		// … and must not settle the row as if it were the new one.
		wantErr(t, f.CompleteManaged(ctx, "w", f.bundle(m.ID, "late"), f.clock.Now().Add(time.Hour), false), managed.ErrLost)
		_, err = f.OrderFor(ctx, m.ID)
		wantErr(t, err, managed.ErrNotFound)
		equal(t, must(f.BundleFor(ctx, m.ID))(t).ETag, "e1") // the old one is kept until then
		equal(t, f.claimOne(t, "w2").KeyType, spec.KeyType)
		ok(t, f.ReleaseLease(ctx, m.ID, "w2"))
	}
}

func managedOwned(t *testing.T, f *fixture) { // A24
	ctx := t.Context()
	x, y := f.client(t, "x"), f.client(t, "y")
	must2(f.EnsureManaged(ctx, managed.Certificate{ClientID: x.ID, Mode: "certificate-agent", Names: []string{"a.example"}}))(t)
	for _, owner := range []string{y.ID, ""} {
		_, _, err := f.EnsureManaged(ctx, managed.Certificate{ClientID: owner, Mode: "certificate-agent", Names: []string{"0.example", "a.example"}})
		wantErr(t, err, managed.ErrOwned)
	}
	// The refused requests took nothing, and the owner may use its name again.
	must2(f.EnsureManaged(ctx, managed.Certificate{ClientID: x.ID, Mode: "certificate-agent", Names: []string{"0.example", "a.example"}}))(t)
	equal(t, len(must(f.ListManaged(ctx, y.ID, "", "", 0))(t)), 0)
}

func managedShared(t *testing.T, f *fixture) { // X43
	ctx := t.Context()
	c := f.client(t, "web1")
	host := func(name string, until time.Time) {
		t.Helper()
		must(f.AddCredential(ctx, clients.Credential{ClientID: c.ID, Kind: clients.TLSKey, Verifier: hash(name), ExpiresAt: until}))(t)
	}
	host("one", time.Time{})
	must(f.AddCredential(ctx, clients.Credential{ClientID: c.ID, Kind: clients.Bearer, Verifier: hash("script")}))(t)
	must(f.AddCredential(ctx, clients.Credential{ClientID: c.ID, Kind: clients.Enrolment, Verifier: hash("token"), ExpiresAt: f.clock.Now().Add(time.Hour)}))(t)
	equal(t, must(f.Hosts(ctx, c.ID))(t), 1)
	m := must2(f.EnsureManaged(ctx, managed.Certificate{ClientID: c.ID, Names: []string{"a.example"}}))(t)
	host("two", f.clock.Now().Add(time.Hour))
	equal(t, must(f.Hosts(ctx, c.ID))(t), 2)
	wantErr(t, f.DeleteUnshared(ctx, m.ID), managed.ErrShared)
	equal(t, must(f.ManagedByID(ctx, m.ID))(t), m)
	f.clock.Advance(time.Hour) // the second key has expired
	ok(t, f.DeleteUnshared(ctx, m.ID))
	wantErr(t, f.DeleteUnshared(ctx, m.ID), managed.ErrNotFound)
	own := f.manage(t, "own.example")
	ok(t, f.DeleteUnshared(ctx, own.ID))
}

func managedNamed(t *testing.T, f *fixture) { // X43
	ctx := t.Context()
	spec := managed.Certificate{Mode: clients.ModeClient, Names: []string{"api.example", "www.example"}, Name: "www.example"}
	m := must2(f.EnsureManaged(ctx, spec))(t)
	equal(t, m.Name, "www.example")
	spec.Name, spec.KeyType = "other", "rsa2048"
	equal(t, must2(f.EnsureManaged(ctx, spec))(t).Name, "www.example")
	ok(t, f.SetName(ctx, m.ID, "lb"))
	equal(t, must(f.ManagedByID(ctx, m.ID))(t).Name, "lb")
	wantErr(t, f.SetName(ctx, "unknown", "lb"), managed.ErrNotFound)
}

func managedReleased(t *testing.T, f *fixture) {
	ctx := t.Context()
	x, y := f.client(t, "x"), f.client(t, "y")
	one := must2(f.EnsureManaged(ctx, managed.Certificate{ClientID: x.ID, Names: []string{"a.example"}}))(t)
	two := must2(f.EnsureManaged(ctx, managed.Certificate{ClientID: x.ID, Names: []string{"a.example", "b.example"}}))(t)
	ok(t, f.DeleteManaged(ctx, one.ID))
	_, _, err := f.EnsureManaged(ctx, managed.Certificate{ClientID: y.ID, Names: []string{"a.example"}})
	wantErr(t, err, managed.ErrOwned)
	ok(t, f.DeleteManaged(ctx, two.ID))
	must2(f.EnsureManaged(ctx, managed.Certificate{ClientID: y.ID, Names: []string{"a.example", "b.example"}}))(t)
	wantErr(t, f.DeleteManaged(ctx, two.ID), managed.ErrNotFound)

	m := f.manage(t, "own.example")
	f.claim(t, "w")
	ok(t, f.CompleteManaged(ctx, "w", f.bundle(m.ID, "e"), f.clock.Now(), true))
	f.claim(t, "w")
	ok(t, f.SaveOrder(ctx, "w", managed.Order{ManagedID: m.ID}))
	ok(t, f.DeleteManaged(ctx, m.ID))
	for _, l := range f.lookups() {
		wantErr(t, l.run(ctx, m.ID), managed.ErrNotFound)
	}
	wantErr(t, f.FailManaged(ctx, m.ID, "w", managed.Failure{Reason: "late", RetryAt: f.clock.Now()}), managed.ErrLost)
}

func managedPages(t *testing.T, f *fixture) {
	ctx := t.Context()
	c := f.client(t, "web1")
	var want, agent []string
	for i := range 7 {
		mode := []clients.Mode{"certificate-agent", "acme-client"}[i%2]
		m := must2(f.EnsureManaged(ctx, managed.Certificate{ClientID: c.ID, Mode: mode, Names: []string{fmt.Sprintf("n%d.example", i)}}))(t)
		want = append(want, m.ID)
		if i%2 == 0 {
			agent = append(agent, m.ID)
		}
	}
	own := f.manage(t, "own.example")
	slices.Sort(want)
	slices.Sort(agent)
	pages := func(clientID string, mode clients.Mode) (got []string) {
		for after := ""; ; after = got[len(got)-1] {
			page := must(f.ListManaged(ctx, clientID, mode, after, 3))(t)
			if len(page) == 0 {
				return got
			}
			for _, m := range page {
				got = append(got, m.ID)
			}
		}
	}
	equal(t, pages(c.ID, ""), want)
	equal(t, pages(c.ID, "certificate-agent"), agent)
	equal(t, pages("", ""), []string{own.ID})
	equal(t, len(pages("unknown", "")), 0)
}

func managedLongNames(t *testing.T, f *fixture) {
	var names []string
	for i := range 100 {
		names = append(names, fmt.Sprintf("%03d.%s.example", i, bytes.Repeat([]byte("x"), 240)))
	}
	m := f.manage(t, names...)
	equal(t, must(f.ManagedByNames(t.Context(), "", m.Mode, names))(t).Names, names)
}

func bundleReplaced(t *testing.T, f *fixture) { // A6, A12
	ctx := t.Context()
	m := f.manage(t, "a.example")
	_, err := f.BundleFor(ctx, m.ID)
	wantErr(t, err, managed.ErrNotFound)
	for _, tag := range []string{"e1", "e2"} {
		ok(t, f.SetDue(ctx, m.ID, f.clock.Now()))
		f.claimOne(t, "w")
		ok(t, f.FailManaged(ctx, m.ID, "w", managed.Failure{Reason: "CA is down", RetryAt: f.clock.Now()}))
		f.claimOne(t, "w")
		ok(t, f.SaveOrder(ctx, "w", managed.Order{ManagedID: m.ID, URL: "u"}))
		f.clock.Advance(time.Minute)
		b, due := f.bundle(m.ID, tag), f.clock.Now().Add(60*24*time.Hour)
		ok(t, f.CompleteManaged(ctx, "w", b, due, false))

		b.CreatedAt = f.clock.Now()
		equal(t, must(f.BundleFor(ctx, m.ID))(t), b)
		want := m
		want.DueAt, want.ETag, want.Serial, want.NotBefore, want.NotAfter = due, b.ETag, b.Serial, b.NotBefore, b.NotAfter
		want.CA, want.ARIID = b.CA, b.ARIID
		want.UpdatedAt = f.clock.Now()
		equal(t, must(f.ManagedByID(ctx, m.ID))(t), want) // lease freed, failures forgotten
		_, err := f.OrderFor(ctx, m.ID)
		wantErr(t, err, managed.ErrNotFound)
		_, err = f.PendingHookFor(ctx, m.ID)
		wantErr(t, err, managed.ErrNotFound)
	}
}

func orderJournal(t *testing.T, f *fixture) { // X7
	ctx := t.Context()
	m := f.manage(t, "a.example")
	o := managed.Order{ManagedID: m.ID, CA: directory, URL: "u1", CSR: []byte{1, 0, 2}, SealedKey: []byte("sealed")}
	wantErr(t, f.SaveOrder(ctx, "w", o), managed.ErrLost) // not claimed
	if f.SaveOrder(ctx, "", o) == nil {
		t.Fatal("an order was saved without an owner")
	}
	f.claimOne(t, "w")
	wantErr(t, f.SaveOrder(ctx, "other", o), managed.ErrLost)
	_, err := f.OrderFor(ctx, m.ID)
	wantErr(t, err, managed.ErrNotFound)
	ok(t, f.SaveOrder(ctx, "w", o))
	o.CreatedAt = f.clock.Now()
	equal(t, must(f.OrderFor(ctx, m.ID))(t), o)
	// A failure retains the journal, and the next attempt continues the order.
	ok(t, f.FailManaged(ctx, m.ID, "w", managed.Failure{Reason: "timeout", RetryAt: f.clock.Now()}))
	equal(t, must(f.OrderFor(ctx, m.ID))(t), o)
	f.claimOne(t, "w")
	o.URL, o.SealedKey = "u2", nil
	ok(t, f.SaveOrder(ctx, "w", o))
	equal(t, must(f.OrderFor(ctx, m.ID))(t), o)
	wantErr(t, f.DeleteOrder(ctx, "other", m.ID), managed.ErrLost)
	equal(t, must(f.OrderFor(ctx, m.ID))(t), o)
	ok(t, f.DeleteOrder(ctx, "w", m.ID))
	ok(t, f.DeleteOrder(ctx, "w", m.ID)) // it is gone either way
	_, err = f.OrderFor(ctx, m.ID)
	wantErr(t, err, managed.ErrNotFound)
	if f.DeleteOrder(ctx, "", m.ID) == nil {
		t.Fatal("an order was deleted without an owner")
	}
}

func managedRevoked(t *testing.T, f *fixture) {
	ctx := t.Context()
	m := f.manage(t, "a.example")
	soon := f.clock.Now().Add(time.Hour)
	wantErr(t, f.RevokeManaged(ctx, m.ID, "", soon, nil), managed.ErrLost) // it has no certificate yet
	f.complete(t, m.ID, "e1", false)
	before := must(f.ManagedByID(ctx, m.ID))(t)
	wantErr(t, f.RevokeManaged(ctx, m.ID, "serial-other", soon, nil), managed.ErrLost)
	wantErr(t, f.RevokeManaged(ctx, "none", "serial-e1", soon, nil), managed.ErrLost)
	equal(t, must(f.ManagedByID(ctx, m.ID))(t), before)

	f.clock.Advance(time.Minute)
	ok(t, f.RevokeManaged(ctx, m.ID, "serial-e1", soon, nil))
	want := before
	want.RevokedAt, want.UpdatedAt, want.DueAt = f.clock.Now(), f.clock.Now(), soon
	equal(t, must(f.ManagedByID(ctx, m.ID))(t), want)
	ok(t, f.RevokeManaged(ctx, m.ID, "serial-e1", soon.Add(time.Hour), nil)) // not later than it was
	equal(t, must(f.ManagedByID(ctx, m.ID))(t).DueAt, soon)
	ok(t, f.RevokeManaged(ctx, m.ID, "serial-e1", f.clock.Now(), nil))
	equal(t, must(f.ManagedByID(ctx, m.ID))(t).DueAt, f.clock.Now())
	f.complete(t, m.ID, "e2", false)
	equal(t, must(f.ManagedByID(ctx, m.ID))(t).RevokedAt.IsZero(), true)
}

// A CSR whose key is compromised is not used again, neither by work in flight nor
// later (X7).
func managedRevokedCSR(t *testing.T, f *fixture) {
	ctx := t.Context()
	spec := managed.Certificate{ClientID: f.client(t, "x").ID, Mode: "certificate-agent", Names: []string{"a.example"}, CSR: []byte("csr 1")}
	m := must2(f.EnsureManaged(ctx, spec))(t)
	f.complete(t, m.ID, "e1", false)
	ok(t, f.SetDue(ctx, m.ID, f.clock.Now()))
	f.claimOne(t, "w1")
	ok(t, f.SaveOrder(ctx, "w1", managed.Order{ManagedID: m.ID, URL: "https://ca.example/order/1", CSR: spec.CSR}))
	ok(t, f.RevokeManaged(ctx, m.ID, "serial-e1", f.clock.Now(), spec.CSR))
	wantErr(t, f.CompleteManaged(ctx, "w1", f.bundle(m.ID, "e2"), time.Time{}, false), managed.ErrLost)
	wantErr(t, f.FailManaged(ctx, m.ID, "w1", managed.Failure{Reason: "no", RetryAt: f.clock.Now()}), managed.ErrLost)
	_, err := f.OrderFor(ctx, m.ID)
	wantErr(t, err, managed.ErrNotFound)
	ok(t, f.RevokeManaged(ctx, m.ID, "serial-e1", f.clock.Now(), nil)) // for another reason
	equal(t, must(f.ManagedByID(ctx, m.ID))(t).DueAt.IsZero(), true)

	spec.CSR = []byte("csr 2")
	must2(f.EnsureManaged(ctx, spec))(t)
	f.claimOne(t, "w2")
	ok(t, f.SaveOrder(ctx, "w2", managed.Order{ManagedID: m.ID, URL: "https://ca.example/order/2", CSR: spec.CSR}))
	ok(t, f.RevokeManaged(ctx, m.ID, "serial-e1", f.clock.Now().Add(time.Hour), []byte("csr 1"))) // late
	equal(t, must(f.ManagedByID(ctx, m.ID))(t).DueAt, f.clock.Now())
	ok(t, f.CompleteManaged(ctx, "w2", f.bundle(m.ID, "e2"), time.Time{}, false))
}

func managedRevokedDeleted(t *testing.T, f *fixture) {
	ctx := t.Context()
	x, y := f.client(t, "x"), f.client(t, "y")
	m := must2(f.EnsureManaged(ctx, managed.Certificate{ClientID: x.ID, Mode: "certificate-agent", Names: []string{"a.example"}}))(t)
	f.complete(t, m.ID, "e1", false)
	f.complete(t, m.ID, "e2", false)
	wantErr(t, f.DeleteRevoked(ctx, m.ID, "serial-e1"), managed.ErrLost)
	_, _, err := f.EnsureManaged(ctx, managed.Certificate{ClientID: y.ID, Names: []string{"a.example"}})
	wantErr(t, err, managed.ErrOwned) // nothing was released
	ok(t, f.DeleteRevoked(ctx, m.ID, "serial-e2"))
	wantErr(t, f.DeleteRevoked(ctx, m.ID, "serial-e2"), managed.ErrNotFound)
	must2(f.EnsureManaged(ctx, managed.Certificate{ClientID: y.ID, Names: []string{"a.example"}}))(t)
}

// A revocation outlives its row, because the CA may not have answered yet (X7).
func revocationWanted(t *testing.T, f *fixture) {
	ctx := t.Context()
	m := f.manage(t, "a.example")
	first := managed.WantedRevocation{
		ManagedID: m.ID, Serial: "01", ClientID: "x", CA: directory, Leaf: []byte{0x30, 0, 0xff}, Reason: "superseded", Forget: true,
	}
	second := first
	second.Serial, second.Forget = "02", false
	ok(t, f.WantRevocation(ctx, first))
	ok(t, f.WantRevocation(ctx, second))
	first.WantedAt, first.DueAt = f.clock.Now(), f.clock.Now()
	second.WantedAt, second.DueAt = first.WantedAt, first.DueAt
	equal(t, must(f.WantedRevocations(ctx, 9))(t), []managed.WantedRevocation{first, second})
	equal(t, must(f.WantedRevocations(ctx, 1))(t), []managed.WantedRevocation{first})
	ok(t, f.DeleteManaged(ctx, m.ID))

	ok(t, f.PostponeRevocation(ctx, m.ID, "01", f.clock.Now().Add(time.Hour)))
	equal(t, must(f.WantedRevocations(ctx, 9))(t), []managed.WantedRevocation{second})
	ok(t, f.EndRevocation(ctx, m.ID, "02"))
	ok(t, f.EndRevocation(ctx, m.ID, "02"))
	equal(t, len(must(f.WantedRevocations(ctx, 9))(t)), 0)
	f.clock.Advance(time.Hour)
	first.DueAt = f.clock.Now()
	equal(t, must(f.WantedRevocations(ctx, 9))(t), []managed.WantedRevocation{first})
	ok(t, f.PostponeRevocation(ctx, m.ID, "01", f.clock.Now().Add(48*time.Hour))) // by a wrong clock
	equal(t, len(must(f.WantedRevocations(ctx, 9))(t)), 1)
	first.Reason = "keyCompromise"
	ok(t, f.WantRevocation(ctx, first)) // again, for another reason
	first.WantedAt, first.DueAt = f.clock.Now(), f.clock.Now()
	equal(t, must(f.WantedRevocations(ctx, 9))(t), []managed.WantedRevocation{first})
}
