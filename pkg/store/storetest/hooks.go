package storetest

import (
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/managed"
)

var hookCases = []testCase{
	{"a new bundle needs a deployment", hookRequired},
	{"a failed hook is retried", hookRetried},
	{"a hook whose owner died is claimed again", hookReclaimed},
	{"a newer bundle is not marked deployed by an older hook", hookNewer},
	{"a deployment can be asked for again", hookAgain},
	{"the next hook is known", nextHook},
}

func (f *fixture) claimHooks(t *testing.T, owner string) []managed.Deployment {
	t.Helper()
	return must(f.ClaimHooks(t.Context(), owner, time.Minute, 0))(t)
}

func hookRequired(t *testing.T, f *fixture) { // A7, A9
	ctx := t.Context()
	m := f.manage(t, "a.example")
	equal(t, len(f.claimHooks(t, "w")), 0)
	f.complete(t, m.ID, "e1", true)
	want := managed.Deployment{ManagedID: m.ID, ETag: "e1", DueAt: f.clock.Now()}
	equal(t, must(f.PendingHookFor(ctx, m.ID))(t), want)
	want.LeaseOwner, want.LeaseUntil = "w", f.clock.Now().Add(time.Minute)
	equal(t, f.claimHooks(t, "w"), []managed.Deployment{want})
	equal(t, len(f.claimHooks(t, "w2")), 0)
	ok(t, f.CompleteHook(ctx, m.ID, "w", "e1"))
	wantErr(t, f.CompleteHook(ctx, m.ID, "w", "e1"), managed.ErrLost)
	_, err := f.PendingHookFor(ctx, m.ID)
	wantErr(t, err, managed.ErrNotFound)
}

func hookRetried(t *testing.T, f *fixture) { // A8
	ctx := t.Context()
	m := f.manage(t, "a.example")
	f.complete(t, m.ID, "e1", true)
	for i := range 3 {
		equal(t, len(f.claimHooks(t, "w")), 1)
		ok(t, f.FailHook(ctx, m.ID, "w", "e1", managed.Failure{Reason: "exit 1", RetryAt: f.clock.Now().Add(time.Hour)}))
		want := managed.Deployment{ManagedID: m.ID, ETag: "e1", DueAt: f.clock.Now().Add(time.Hour), Failures: i + 1, LastError: "exit 1"}
		equal(t, must(f.PendingHookFor(ctx, m.ID))(t), want)
		equal(t, len(f.claimHooks(t, "w")), 0)
		f.clock.Advance(time.Hour)
	}
	equal(t, must(f.BundleFor(ctx, m.ID))(t).ETag, "e1")
}

func hookReclaimed(t *testing.T, f *fixture) {
	m := f.manage(t, "a.example")
	f.complete(t, m.ID, "e1", true)
	equal(t, len(f.claimHooks(t, "w1")), 1)
	f.clock.Advance(time.Minute)
	equal(t, len(f.claimHooks(t, "w2")), 1)
	ok(t, f.CompleteHook(t.Context(), m.ID, "w2", "e1"))
}

func hookNewer(t *testing.T, f *fixture) {
	ctx := t.Context()
	m := f.manage(t, "a.example")
	for name, settle := range map[string]func() error{
		"complete": func() error { return f.CompleteHook(ctx, m.ID, "w", "old") },
		"fail": func() error {
			return f.FailHook(ctx, m.ID, "w", "old", managed.Failure{Reason: "x", RetryAt: f.clock.Now().Add(time.Hour)})
		},
	} {
		f.complete(t, m.ID, "old", true)
		equal(t, len(f.claimHooks(t, "w")), 1)
		f.complete(t, m.ID, "new", true)
		equal(t, len(f.claimHooks(t, "w2")), 0) // not while the old one runs
		wantErr(t, settle(), managed.ErrLost)
		got := f.claimHooks(t, "w2") // and at once after it
		if len(got) != 1 || got[0].ETag != "new" || got[0].Failures != 0 {
			t.Fatalf("%s: claimed %+v", name, got)
		}
		// The old owner, if it comes late, does not free what another runs.
		wantErr(t, settle(), managed.ErrLost)
		equal(t, len(f.claimHooks(t, "w3")), 0)
		ok(t, f.CompleteHook(ctx, m.ID, "w2", "new"))
	}
}

func hookAgain(t *testing.T, f *fixture) {
	ctx := t.Context()
	wantErr(t, f.RequireHook(ctx, "none", "e"), managed.ErrNotFound)
	m := f.manage(t, "a.example")
	ok(t, f.RequireHook(ctx, m.ID, "e1"))
	f.claimHooks(t, "w")
	ok(t, f.FailHook(ctx, m.ID, "w", "e1", managed.Failure{Reason: "x", RetryAt: f.clock.Now().Add(time.Hour)}))
	ok(t, f.RequireHook(ctx, m.ID, "e1"))
	equal(t, must(f.PendingHookFor(ctx, m.ID))(t), managed.Deployment{ManagedID: m.ID, ETag: "e1", DueAt: f.clock.Now()})
}

func nextHook(t *testing.T, f *fixture) {
	ctx := t.Context()
	_, err := f.NextHook(ctx)
	wantErr(t, err, managed.ErrNotFound)
	m := f.manage(t, "a.example")
	ok(t, f.RequireHook(ctx, m.ID, "e1"))
	equal(t, must(f.NextHook(ctx))(t), f.clock.Now())
	f.claimHooks(t, "w")
	equal(t, must(f.NextHook(ctx))(t), f.clock.Now().Add(time.Minute))
	ok(t, f.FailHook(ctx, m.ID, "w", "e1", managed.Failure{Reason: "x", RetryAt: f.clock.Now().Add(time.Hour)}))
	equal(t, must(f.NextHook(ctx))(t), f.clock.Now().Add(time.Hour))
}
