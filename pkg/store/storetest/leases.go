package storetest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/managed"
)

var leaseCases = []testCase{
	{"due rows are claimed, earliest first", claimOrder},
	{"the rows of all clients take turns", dueTurns},
	{"a lost lease is refused", leaseLost},
	{"a lease that no one took still completes", leaseOverdue},
	{"an extended lease holds", leaseExtended},
	{"a released row is due again", leaseReleased},
	{"who is alone frees what the dead hold", leasesFreed},
	{"a failure is due again at its time", failureRetried},
	{"a row without a due time is never claimed", neverDue},
	{"the next due time is known", nextDue},
	{"an owner needs a name", ownerNamed},
}

func claimOrder(t *testing.T, f *fixture) {
	ctx := t.Context()
	var want []string
	for i := range 5 {
		m := f.manage(t, fmt.Sprintf("n%d.example", i))
		ok(t, f.SetDue(ctx, m.ID, f.clock.Now().Add(time.Duration(5-i)*time.Minute)))
		want = append([]string{m.ID}, want...)
	}
	equal(t, len(f.claim(t, "w")), 0)
	f.clock.Advance(5 * time.Minute)
	var got []string
	for range 3 {
		for _, m := range must(f.ClaimDue(ctx, "w", time.Minute, 2))(t) {
			equal(t, m.LeaseOwner, "w")
			equal(t, m.LeaseUntil, f.clock.Now().Add(time.Minute))
			equal(t, m, must(f.ManagedByID(ctx, m.ID))(t))
			got = append(got, m.ID)
		}
	}
	equal(t, got, want)
	equal(t, len(f.claim(t, "w2")), 0)
}

// dueTurns has one client with more due rows than are read at a time, and others
// whose rows became due later (X42).
func dueTurns(t *testing.T, f *fixture) {
	ctx := t.Context()
	equal(t, len(must(f.Due(ctx))(t)), 0)
	row := func(client, name string) managed.Certificate {
		m, _, err := f.EnsureManaged(ctx, managed.Certificate{ClientID: client, Mode: "certificate-agent", Names: []string{name}, KeyType: "ec256"})
		ok(t, err)
		return m
	}
	busy, idle := f.client(t, "busy").ID, f.client(t, "idle").ID
	for i := range 300 {
		row(busy, fmt.Sprintf("n%d.example", i))
	}
	f.clock.Advance(time.Second)
	small := f.client(t, "small").ID
	first, own := row(small, "small.example"), f.manage(t, "own.example")
	f.clock.Advance(time.Second)
	second := row(small, "second.example")
	ok(t, f.SetDue(ctx, row(idle, "later.example").ID, f.clock.Now().Add(time.Hour)))

	turns := map[int][]string{} // clients
	seen := map[string]bool{}
	for _, d := range must(f.Due(ctx))(t) {
		turns[d.Turn] = append(turns[d.Turn], d.ClientID)
		equal(t, seen[d.ID], false)
		seen[d.ID] = true
	}
	slices.Sort(turns[0])
	want := []string{"", busy, small}
	slices.Sort(want)
	equal(t, turns[0], want)
	equal(t, turns[1], []string{busy})
	equal(t, seen[first.ID] && seen[own.ID], true)

	// A leased row is not due, and no other owner gets it.
	claimed := must(f.Claim(ctx, "w", time.Minute, []string{first.ID, own.ID, "none"}))(t)
	equal(t, len(claimed), 2)
	equal(t, len(must(f.Claim(ctx, "w2", time.Minute, []string{first.ID, own.ID}))(t)), 0)
	for _, d := range must(f.Due(ctx))(t) {
		equal(t, d.ID == first.ID || d.ID == own.ID, false)
		equal(t, d.ClientID == small, d.ID == second.ID)
	}
}

func leaseLost(t *testing.T, f *fixture) {
	ctx := t.Context()
	m := f.manage(t, "a.example")
	f.claimOne(t, "w1")
	f.clock.Advance(time.Minute) // w1 stalls, its lease ends
	f.claimOne(t, "w2")
	before := must(f.ManagedByID(ctx, m.ID))(t)
	wantErr(t, f.CompleteManaged(ctx, "w1", f.bundle(m.ID, "late"), time.Time{}, true), managed.ErrLost)
	wantErr(t, f.FailManaged(ctx, m.ID, "w1", managed.Failure{Reason: "late"}), managed.ErrLost)
	wantErr(t, f.ExtendLease(ctx, m.ID, "w1", time.Hour), managed.ErrLost)
	wantErr(t, f.ReleaseLease(ctx, m.ID, "w1"), managed.ErrLost)
	wantErr(t, f.SaveOrder(ctx, "w1", managed.Order{ManagedID: m.ID}), managed.ErrLost)
	equal(t, must(f.ManagedByID(ctx, m.ID))(t), before)
	_, err := f.BundleFor(ctx, m.ID)
	wantErr(t, err, managed.ErrNotFound)
	_, err = f.PendingHookFor(ctx, m.ID)
	wantErr(t, err, managed.ErrNotFound)
	ok(t, f.CompleteManaged(ctx, "w2", f.bundle(m.ID, "e"), time.Time{}, false))
	wantErr(t, f.CompleteManaged(ctx, "w2", f.bundle(m.ID, "twice"), time.Time{}, false), managed.ErrLost)
	ok(t, f.CompleteManaged(ctx, "w2", f.bundle(m.ID, "e"), time.Time{}, false)) // the first answer was lost
	equal(t, must(f.BundleFor(ctx, m.ID))(t).ETag, "e")
}

func leaseOverdue(t *testing.T, f *fixture) {
	m := f.manage(t, "a.example")
	f.claimOne(t, "w1")
	f.clock.Advance(time.Hour)
	ok(t, f.CompleteManaged(t.Context(), "w1", f.bundle(m.ID, "e"), time.Time{}, false))
}

func leaseExtended(t *testing.T, f *fixture) {
	ctx := t.Context()
	m := f.manage(t, "a.example")
	f.claimOne(t, "w1")
	f.clock.Advance(59 * time.Second)
	ok(t, f.ExtendLease(ctx, m.ID, "w1", time.Minute))
	f.clock.Advance(59 * time.Second)
	equal(t, len(f.claim(t, "w2")), 0)
	f.clock.Advance(time.Second)
	f.claimOne(t, "w2")
	wantErr(t, f.ExtendLease(ctx, "none", "w1", time.Minute), managed.ErrLost)
}

func leaseReleased(t *testing.T, f *fixture) { // A36
	ctx := t.Context()
	m := f.manage(t, "a.example")
	f.claimOne(t, "w1")
	ok(t, f.ReleaseLease(ctx, m.ID, "w1"))
	wantErr(t, f.CompleteManaged(ctx, "w1", f.bundle(m.ID, "e"), time.Time{}, false), managed.ErrLost)
	equal(t, must(f.ManagedByID(ctx, m.ID))(t), m)
	f.claimOne(t, "w2")
}

func leasesFreed(t *testing.T, f *fixture) { // X7
	ctx := t.Context()
	m := f.manage(t, "a.example")
	f.complete(t, m.ID, "e", true)
	f.clock.Advance(61 * 24 * time.Hour)
	f.claimOne(t, "dead")
	equal(t, len(must(f.ClaimHooks(ctx, "dead", time.Hour, 1))(t)), 1)
	ok(t, f.FreeLeases(ctx))
	wantErr(t, f.ExtendLease(ctx, m.ID, "dead", time.Minute), managed.ErrLost)
	f.claimOne(t, "next")
	equal(t, len(must(f.ClaimHooks(ctx, "next", time.Hour, 1))(t)), 1)
}

func failureRetried(t *testing.T, f *fixture) { // D9
	ctx := t.Context()
	m := f.manage(t, "a.example")
	for i := range 3 {
		f.claimOne(t, "w")
		reason := fmt.Sprintf("attempt %d \x00\xff", i)
		ok(t, f.FailManaged(ctx, m.ID, "w", managed.Failure{Reason: reason, RetryAt: f.clock.Now().Add(time.Hour)}))
		got := must(f.ManagedByID(ctx, m.ID))(t)
		want := m
		want.Failures, want.LastError, want.LastErrorAt = i+1, fmt.Sprintf("attempt %d \uFFFD\uFFFD", i), f.clock.Now()
		want.DueAt, want.UpdatedAt = f.clock.Now().Add(time.Hour), f.clock.Now()
		equal(t, got, want)
		equal(t, len(f.claim(t, "w")), 0)
		f.clock.Advance(time.Hour)
	}
}

func neverDue(t *testing.T, f *fixture) {
	ctx := t.Context()
	m := f.manage(t, "a.example")
	ok(t, f.SetDue(ctx, m.ID, time.Time{}))
	equal(t, len(f.claim(t, "w")), 0)
	_, err := f.NextDue(ctx)
	wantErr(t, err, managed.ErrNotFound)
	wantErr(t, f.SetDue(ctx, "none", time.Time{}), managed.ErrNotFound)
	ok(t, f.SetDue(ctx, m.ID, f.clock.Now()))
	f.claimOne(t, "w")
}

func nextDue(t *testing.T, f *fixture) {
	ctx := t.Context()
	_, err := f.NextDue(ctx)
	wantErr(t, err, managed.ErrNotFound)
	start := f.clock.Now()
	a, b := f.manage(t, "a.example"), f.manage(t, "b.example")
	ok(t, f.SetDue(ctx, b.ID, start.Add(30*time.Second)))
	equal(t, must(f.NextDue(ctx))(t), start)
	f.claimOne(t, "w")
	equal(t, must(f.NextDue(ctx))(t), start.Add(30*time.Second))
	ok(t, f.SetDue(ctx, b.ID, start.Add(time.Hour)))
	equal(t, must(f.NextDue(ctx))(t), start.Add(time.Minute)) // the end of the lease
	ok(t, f.CompleteManaged(ctx, "w", f.bundle(a.ID, "e"), start.Add(2*time.Hour), false))
	equal(t, must(f.NextDue(ctx))(t), start.Add(time.Hour))
}

func ownerNamed(t *testing.T, f *fixture) {
	ctx := t.Context()
	m := f.manage(t, "a.example")
	_, err1 := f.ClaimDue(ctx, "", time.Minute, 1)
	_, err2 := f.ClaimHooks(ctx, "", time.Minute, 1)
	for i, err := range []error{
		err1, err2, f.ExtendLease(ctx, m.ID, "", time.Minute), f.ReleaseLease(ctx, m.ID, ""),
		f.FailManaged(ctx, m.ID, "", managed.Failure{Reason: "x"}), f.CompleteManaged(ctx, "", f.bundle(m.ID, "e"), time.Time{}, false),
	} {
		if err == nil {
			t.Errorf("call %d accepts an empty owner", i)
		}
	}
	equal(t, must(f.ManagedByID(ctx, m.ID))(t), m)
}
