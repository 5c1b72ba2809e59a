package storetest

import (
	"context"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
)

var delayCases = []testCase{
	{"a success ends the delays of the same CA", delaysEnded},
	{"a delay that was ended is not ended again at once", delayEndedOnce},
	{"a local fault is not counted", localFault},
	{"times of a wrong clock are corrected", unparked},
	{"leases of a wrong clock end", farLeases},
	{"a deployment's lease is extended and given back", hookLease},
	{"the database is written", probed},
}

const year = 365 * 24 * time.Hour

// failTemporarily makes a row fail with a CA, due again in an hour.
func (f *fixture) failTemporarily(t *testing.T, id, ca string) {
	t.Helper()
	ok(t, f.SetDue(t.Context(), id, f.clock.Now()))
	f.claimOne(t, "w")
	ok(t, f.FailManaged(t.Context(), id, "w", managed.Failure{Reason: "503", RetryAt: f.clock.Now().Add(time.Hour), With: ca}))
}

func delaysEnded(t *testing.T, f *fixture) {
	ctx := t.Context()
	ids := map[string]string{}
	for _, name := range []string{"same", "other-ca", "told"} {
		ids[name] = f.manage(t, name+".example").ID
		ok(t, f.SetDue(ctx, ids[name], time.Time{}))
	}
	for range 4 {
		f.failTemporarily(t, ids["same"], "ca")
	}
	f.failTemporarily(t, ids["other-ca"], "ca2")
	f.failTemporarily(t, ids["told"], "") // the CA asked for the wait, or it is another failure
	issued := f.manage(t, "issued.example").ID
	f.failTemporarily(t, issued, "ca")
	f.complete(t, issued, "e", false)
	equal(t, must(f.EndDelays(ctx, ""))(t), 0)
	equal(t, must(f.EndDelays(ctx, "ca"))(t), 1)
	equal(t, must(f.EndDelays(ctx, "ca"))(t), 0)
	got := f.claimOne(t, "w")
	equal(t, got.ID, ids["same"])
	equal(t, got.Failures, 4) // its next delay is as long, if the cause is its own
}

func delayEndedOnce(t *testing.T, f *fixture) {
	ctx := t.Context()
	m := f.manage(t, "a.example")
	fail := func() {
		t.Helper()
		ok(t, f.FailManaged(ctx, m.ID, "w", managed.Failure{Reason: "503", RetryAt: f.clock.Now().Add(time.Hour), With: "ca"}))
	}
	for range 2 {
		f.claimOne(t, "w")
		fail()
		equal(t, must(f.EndDelays(ctx, "ca"))(t), 1)
		f.claimOne(t, "w")
		fail() // the CA works for others
		equal(t, must(f.EndDelays(ctx, "ca"))(t), 0)
		f.clock.Advance(time.Hour)
	}
}

func localFault(t *testing.T, f *fixture) {
	ctx := t.Context()
	m := f.manage(t, "a.example")
	for range 3 {
		f.claimOne(t, "w")
		ok(t, f.FailManaged(ctx, m.ID, "w", managed.Failure{Reason: "disk full", RetryAt: f.clock.Now().Add(time.Second), Local: true}))
		got := must(f.ManagedByID(ctx, m.ID))(t)
		equal(t, got.Failures, 0)
		equal(t, got.LastError, "disk full")
		f.clock.Advance(time.Second)
	}
	f.complete(t, m.ID, "e", true)
	f.claimHooks(t, "w")
	ok(t, f.FailHook(ctx, m.ID, "w", "e", managed.Failure{Reason: "disk full", RetryAt: f.clock.Now(), Local: true}))
	equal(t, must(f.PendingHookFor(ctx, m.ID))(t).Failures, 0)
}

// The rule is that of cert.IsParked, for rows with and without a certificate.
func unparked(t *testing.T, f *fixture) { // X45
	ctx, start := t.Context(), f.clock.Now()
	const day = 24 * time.Hour
	with, without := f.manage(t, "with.example").ID, f.manage(t, "without.example").ID
	ok(t, f.SetDue(ctx, without, time.Time{}))
	f.complete(t, with, "e", true)
	for _, wait := range []time.Duration{-12 * year, 0, day, 8 * day, 8*day + time.Second, 60 * day, 89 * day, 90 * day, 91 * day, 12 * year} {
		for _, id := range []string{with, without} {
			ok(t, f.SetDue(ctx, id, start.Add(wait)))
		}
		ok(t, f.RequireHook(ctx, with, "e"))
		f.claimHooks(t, "w")
		ok(t, f.FailHook(ctx, with, "w", "e", managed.Failure{RetryAt: start.Add(wait)}))
		must(f.Unpark(ctx))(t)
		equal(t, must(f.Unpark(ctx))(t), 0)
		for id, notAfter := range map[string]time.Time{with: start.Add(90 * day), without: {}} {
			want := start.Add(wait)
			if cert.IsParked(want, notAfter, start) {
				want = start
			}
			equal(t, must(f.ManagedByID(ctx, id))(t).DueAt, want)
		}
		want := start.Add(wait) // no deployment waits that long
		if cert.IsParked(want, time.Time{}, start) {
			want = start
		}
		equal(t, must(f.PendingHookFor(ctx, with))(t).DueAt, want)
	}
	ok(t, f.SetDue(ctx, without, time.Time{})) // never is no time
	equal(t, must(f.Unpark(ctx))(t), 0)
	equal(t, must(f.ManagedByID(ctx, without))(t).DueAt, time.Time{})
}

func farLeases(t *testing.T, f *fixture) { // X45
	ctx := t.Context()
	m := f.manage(t, "a.example")
	f.complete(t, m.ID, "e", true)
	ok(t, f.SetDue(ctx, m.ID, f.clock.Now()))
	f.claimOne(t, "held")
	equal(t, len(f.claimHooks(t, "held")), 1)
	equal(t, must(f.Unpark(ctx))(t), 0) // others may hold these
	ok(t, f.ExtendLease(ctx, m.ID, "held", 12*year))
	ok(t, f.ExtendHook(ctx, m.ID, "held", 12*year))
	equal(t, must(f.Unpark(ctx))(t), 2)
	wantErr(t, f.ExtendLease(ctx, m.ID, "held", time.Minute), managed.ErrLost)
	f.claimOne(t, "next")
	equal(t, len(f.claimHooks(t, "next")), 1)
}

func hookLease(t *testing.T, f *fixture) {
	ctx := t.Context()
	m := f.manage(t, "a.example")
	f.complete(t, m.ID, "e", true)
	f.claimHooks(t, "w")
	for range 10 {
		f.clock.Advance(30 * time.Second)
		ok(t, f.ExtendHook(ctx, m.ID, "w", time.Minute))
		equal(t, len(f.claimHooks(t, "other")), 0)
	}
	ok(t, f.ReleaseHook(ctx, m.ID, "w"))
	for _, late := range []func() error{
		func() error { return f.ReleaseHook(ctx, m.ID, "w") },
		func() error { return f.ExtendHook(ctx, m.ID, "w", time.Minute) },
		func() error { return f.CompleteHook(ctx, m.ID, "w", "e") },
		func() error { return f.FailHook(ctx, m.ID, "w", "e", managed.Failure{}) },
	} {
		wantErr(t, late(), managed.ErrLost)
	}
	got := f.claimHooks(t, "other")
	equal(t, len(got), 1)
	equal(t, got[0].Failures, 0)
	wantErr(t, f.CompleteHook(ctx, m.ID, "w", "e"), managed.ErrLost) // another runs it
	equal(t, len(f.claimHooks(t, "third")), 0)
}

func probed(t *testing.T, f *fixture) {
	for range 2 {
		ok(t, f.ProbeWrite(t.Context()))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if f.ProbeWrite(ctx) == nil {
		t.Fatal("a write that was not done succeeded")
	}
}
