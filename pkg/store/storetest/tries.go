package storetest

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/managed"
)

var triesCases = []testCase{
	{"a failing certificate is tried now, bounded", triedNow},
	{"a failed try does not change the schedule", triedWithoutDelay},
	{"the CA's wish to wait is kept", triedTooEarly},
	{"a try needs a failing certificate that is not under way", notTried},
	{"a certificate that is not failing is renewed, bounded", renewedNow},
	{"a try is counted once", triedOnce},
	{"tries outlive their row", triesOutlive},
	{"all failing certificates are tried, bounded", triedAll},
	{"many failing certificates are tried one after the other", triedInTurn},
	{"many reloads are bounded together", triedTogether},
	{"the budget of reloads returns", triedLater},
	{"failing deployments are tried", triedHooks},
	{"an attempt of a holder is counted as a try", triesCounted},
}

var (
	byPerson = managed.Try{Tries: managed.Tries{Hourly: 4, Daily: 24}}
	byStart  = managed.Tries{Hourly: 3, Daily: 12}
)

// failLater makes a row that is due fail, and due again in a day.
func (f *fixture) failLater(t *testing.T, id string, waitUntil time.Time) {
	t.Helper()
	f.claimOne(t, "w")
	ok(t, f.FailManaged(t.Context(), id, "w", managed.Failure{
		Reason: "DNS", RetryAt: f.clock.Now().Add(24 * time.Hour), WaitUntil: waitUntil,
	}))
}

func (f *fixture) later(t *testing.T, err error) managed.NotNow {
	t.Helper()
	var later *managed.NotNow
	if !errors.As(err, &later) {
		t.Fatalf("error is %v, not that it is too early", err)
	}
	return *later
}

func triedNow(t *testing.T, f *fixture) { // X44
	ctx, start := t.Context(), f.clock.Now()
	m := f.manage(t, "a.example")
	f.failLater(t, m.ID, time.Time{})
	for i := range 4 {
		f.clock.Advance(time.Minute)
		check := byPerson
		check.Check = true
		must(f.TryNow(ctx, m.ID, check))(t) // reports only
		got := must(f.TryNow(ctx, m.ID, byPerson))(t)
		equal(t, got.DueAt, f.clock.Now())
		equal(t, got.Failures, i+1)
		f.failLater(t, m.ID, time.Time{})
	}
	f.clock.Advance(time.Minute)
	_, err := f.TryNow(ctx, m.ID, byPerson)
	equal(t, f.later(t, err), managed.NotNow{Reason: managed.TriesUsed, Most: 4, Per: time.Hour, At: start.Add(61 * time.Minute)})
	f.clock.Advance(56 * time.Minute)
	f.later(t, func() error { _, err := f.TryNow(ctx, m.ID, managed.Try{Tries: byStart}); return err }())
	must(f.TryNow(ctx, m.ID, byPerson))(t)
	f.failLater(t, m.ID, time.Time{})
	f.later(t, func() error { _, err := f.TryNow(ctx, m.ID, byPerson); return err }())

	for range 20 { // hours
		f.clock.Advance(time.Hour)
		for range 4 {
			if _, err := f.TryNow(ctx, m.ID, byPerson); err != nil {
				break
			}
			f.failLater(t, m.ID, time.Time{})
		}
	}
	if n := must(f.ManagedByID(ctx, m.ID))(t).Failures; n != 25 {
		t.Fatalf("%d failures in a day, want the first and 24", n)
	}
}

func triedWithoutDelay(t *testing.T, f *fixture) { // X44
	ctx, start := t.Context(), f.clock.Now()
	x := f.client(t, "x")
	m := f.register(t, registration(x.ID, "ec256", "a.example"))
	fails := func(failure managed.Failure) managed.Certificate {
		t.Helper()
		f.claimOne(t, "w")
		failure.Reason = "DNS"
		ok(t, f.FailManaged(ctx, m.ID, "w", failure))
		return must(f.ManagedByID(ctx, m.ID))(t)
	}
	tried := func(planned time.Time) {
		t.Helper()
		m = must(f.TryNow(ctx, m.ID, byPerson))(t)
		equal(t, m.DueAt, f.clock.Now())
		equal(t, m.PlannedAt, planned)
	}
	planned := start.Add(10 * time.Minute)
	equal(t, fails(managed.Failure{RetryAt: planned}).PlannedAt, time.Time{})
	tried(planned)
	m = fails(managed.Failure{RetryAt: f.clock.Now(), Local: true}) // the try continues
	equal(t, m.PlannedAt, planned)
	ok(t, f.ReleaseLease(ctx, f.claimOne(t, "w").ID, "w"))
	m = fails(managed.Failure{RetryAt: planned, Tried: true})
	equal(t, m.Failures, 1)
	equal(t, m.DueAt, planned)
	equal(t, m.PlannedAt, time.Time{})

	tried(planned) // another specification does not change that, nor does another row
	m = f.register(t, registration(x.ID, "ec384", "a.example"))
	equal(t, m.PlannedAt, planned)
	ok(t, f.DeleteManaged(ctx, m.ID))
	f.clock.Advance(time.Second)
	m = f.register(t, registration(x.ID, "ec256", "a.example"))
	equal(t, m.DueAt, f.clock.Now())
	equal(t, m.PlannedAt, planned)
	equal(t, m.Failures, 1)
	f.complete(t, m.ID, "e", false)
	equal(t, must(f.ManagedByID(ctx, m.ID))(t).PlannedAt, time.Time{})
	f.clock.Advance(time.Hour)
	planned = f.clock.Now().Add(time.Minute)
	ok(t, f.SetDue(ctx, m.ID, f.clock.Now()))
	fails(managed.Failure{RetryAt: planned})
	tried(planned)
	ok(t, f.SetDue(ctx, m.ID, time.Time{}))
	equal(t, must(f.ManagedByID(ctx, m.ID))(t).PlannedAt, time.Time{})
}

func triedTooEarly(t *testing.T, f *fixture) {
	ctx := t.Context()
	m := f.manage(t, "a.example")
	told := f.clock.Now().Add(2 * time.Hour)
	f.failLater(t, m.ID, told)
	equal(t, must(f.ManagedByID(ctx, m.ID))(t).WaitUntil, told)
	_, err := f.TryNow(ctx, m.ID, byPerson)
	equal(t, f.later(t, err), managed.NotNow{Reason: managed.CAWaits, At: f.clock.Now().Add(24 * time.Hour)})
	equal(t, must(f.TryFailing(ctx, byStart))(t), 0)
	f.clock.Advance(2 * time.Hour)
	must(f.TryNow(ctx, m.ID, byPerson))(t)
	f.failLater(t, m.ID, f.clock.Now().Add(12*year)) // of a wrong clock
	must(f.TryNow(ctx, m.ID, byPerson))(t)
	f.complete(t, m.ID, "e", false)
	equal(t, must(f.ManagedByID(ctx, m.ID))(t).WaitUntil, time.Time{})
}

func notTried(t *testing.T, f *fixture) {
	ctx := t.Context()
	m := f.manage(t, "a.example")
	due := must(f.ManagedByID(ctx, m.ID))(t)
	equal(t, must(f.TryNow(ctx, m.ID, byPerson))(t), due)
	under := f.claimOne(t, "w")
	equal(t, must(f.TryNow(ctx, m.ID, byPerson))(t), under)
	ok(t, f.ReleaseLease(ctx, m.ID, "w"))
	f.complete(t, m.ID, "e", false)
	good := must(f.ManagedByID(ctx, m.ID))(t)
	equal(t, must(f.TryNow(ctx, m.ID, byPerson))(t), good)
	ok(t, f.SetDue(ctx, m.ID, f.clock.Now()))
	f.failLater(t, m.ID, time.Time{})
	ok(t, f.SetDue(ctx, m.ID, time.Time{})) // it is not configured any more
	equal(t, must(f.TryNow(ctx, m.ID, byPerson))(t).DueAt, time.Time{})
	equal(t, must(f.TryFailing(ctx, byStart))(t), 0)
	_, err := f.TryNow(ctx, "none", byPerson)
	wantErr(t, err, managed.ErrNotFound)
}

func renewedNow(t *testing.T, f *fixture) {
	ctx, start := t.Context(), f.clock.Now()
	m := f.manage(t, "a.example")
	f.complete(t, m.ID, "e", false)
	try := byPerson
	try.Pause = managed.Pause{Every: time.Hour, Spare: 1}
	for range 2 {
		equal(t, must(f.TryNow(ctx, m.ID, try))(t).DueAt, start)
		f.complete(t, m.ID, "e", false)
	}
	_, err := f.TryNow(ctx, m.ID, try)
	equal(t, f.later(t, err), managed.NotNow{Reason: managed.OrdersUsed, At: start.Add(time.Hour)})
	ok(t, f.SetDue(ctx, m.ID, start))
	f.failLater(t, m.ID, time.Time{}) // a failure has its own limit
	equal(t, must(f.TryNow(ctx, m.ID, try))(t).DueAt, start)
}

func triedOnce(t *testing.T, f *fixture) {
	m := f.manage(t, "a.example")
	f.failLater(t, m.ID, time.Time{})
	var refused atomic.Int32
	for range 4 {
		each(func(int) {
			if _, err := f.TryNow(t.Context(), m.ID, byPerson); err != nil {
				refused.Add(1)
			}
		})
		f.failLater(t, m.ID, time.Time{})
	}
	equal(t, refused.Load(), 0)
}

// Neither another specification nor another row is a way around the limits.
func triesOutlive(t *testing.T, f *fixture) {
	ctx, start := t.Context(), f.clock.Now()
	x := f.client(t, "x")
	m := f.register(t, registration(x.ID, "ec256", "a.example"))
	for i := range 4 {
		f.failLater(t, m.ID, time.Time{})
		if i%2 == 0 {
			ok(t, f.DeleteManaged(ctx, m.ID))
		}
		m = f.register(t, registration(x.ID, []string{"ec384", "ec256"}[i%2], "a.example"))
		equal(t, m.DueAt, start)
		equal(t, m.Failures, i+1)
		equal(t, m.LastError, "DNS")
	}
	f.failLater(t, m.ID, time.Time{})
	ok(t, f.DeleteManaged(ctx, m.ID))
	m = f.register(t, registration(x.ID, "ec256", "a.example"))
	equal(t, m.DueAt, start.Add(time.Hour))
	_, err := f.TryNow(ctx, m.ID, byPerson)
	equal(t, f.later(t, err).Reason, managed.TriesUsed)
	f.clock.Advance(time.Hour)
	f.failLater(t, m.ID, f.clock.Now().Add(20*time.Hour))
	ok(t, f.DeleteManaged(ctx, m.ID))
	m = f.register(t, registration(x.ID, "ec256", "a.example")) // nor around the CA's wish
	equal(t, m.DueAt, f.clock.Now().Add(24*time.Hour))

	f.complete(t, m.ID, "e", false)
	ok(t, f.DeleteManaged(ctx, m.ID)) // a success ends the failures of earlier rows
	equal(t, f.register(t, registration(x.ID, "ec256", "a.example")).Failures, 0)
}

func triedAll(t *testing.T, f *fixture) { // X44
	ctx := t.Context()
	failing := f.manage(t, "failing.example")
	f.failLater(t, failing.ID, time.Time{})
	asked := f.manage(t, "asked.example")
	f.failLater(t, asked.ID, f.clock.Now().Add(time.Hour))
	good := f.manage(t, "good.example")
	f.complete(t, good.ID, "e", false)
	for range 3 {
		equal(t, must(f.TryFailing(ctx, byStart))(t), 1)
		equal(t, must(f.TryFailing(ctx, byStart))(t), 0) // it is due
		f.failLater(t, failing.ID, time.Time{})
	}
	equal(t, must(f.TryFailing(ctx, byStart))(t), 0) // a crash loop
	equal(t, must(f.TryNow(ctx, failing.ID, byPerson))(t).DueAt, f.clock.Now())
}

func triedInTurn(t *testing.T, f *fixture) {
	ctx, now := t.Context(), f.clock.Now()
	for i := range 53 {
		m := f.manage(t, fmt.Sprintf("n%d.example", i))
		f.failLater(t, m.ID, time.Time{})
	}
	equal(t, must(f.TryFailing(ctx, byStart))(t), 53)
	for _, m := range must(f.ListManaged(ctx, "", "", "", 500))(t) { // a person may be faster
		equal(t, m.PlannedAt, now.Add(24*time.Hour))
		if m.DueAt.After(now.Add(2 * time.Minute)) {
			m = must(f.TryNow(ctx, m.ID, byPerson))(t)
			equal(t, m.PlannedAt, now.Add(24*time.Hour))
			ok(t, f.SetDue(ctx, m.ID, now.Add(3*time.Minute)))
		}
	}
	equal(t, len(must(f.ClaimDue(ctx, "w", time.Minute, 500))(t)), 50)
	equal(t, must(f.NextDue(ctx))(t), now.Add(time.Minute))
	f.clock.Advance(3 * time.Minute)
	equal(t, len(must(f.ClaimDue(ctx, "w2", time.Minute, 500))(t)), 53)
}

// Many reloads within a short time, by several instances, cause fifty attempts and one a
// minute altogether. The certificates that they planned are tried without another.
func triedTogether(t *testing.T, f *fixture) { // X44
	ctx, start, tried := t.Context(), f.clock.Now(), 0
	for i := range 70 {
		m := f.manage(t, fmt.Sprintf("n%d.example", i))
		f.failLater(t, m.ID, time.Time{})
	}
	attempt := func() {
		t.Helper()
		for _, m := range must(f.ClaimDue(ctx, "w", time.Minute, 500))(t) {
			tried++
			ok(t, f.FailManaged(ctx, m.ID, "w", managed.Failure{Reason: "DNS", RetryAt: f.clock.Now().Add(24 * time.Hour)}))
		}
		equal(t, tried, 50+int(f.clock.Now().Sub(start)/time.Minute))
	}
	for range 6 {
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				if _, err := f.TryFailing(ctx, byStart); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		attempt()
		f.clock.Advance(12 * time.Second)
	}
	for range 60 {
		f.clock.Advance(time.Minute)
		attempt()
	}
}

// The budget returns with time. A plan of a clock that was a year ahead does not count.
func triedLater(t *testing.T, f *fixture) {
	ctx := t.Context()
	for i := range 51 {
		m := f.manage(t, fmt.Sprintf("n%d.example", i))
		f.failLater(t, m.ID, time.Time{})
	}
	reload := func(atOnce int) {
		t.Helper()
		must(f.TryFailing(ctx, byStart))(t)
		rows := must(f.ClaimDue(ctx, "w", time.Minute, 500))(t)
		equal(t, len(rows), atOnce)
		for _, m := range rows {
			ok(t, f.FailManaged(ctx, m.ID, "w", managed.Failure{Reason: "DNS", RetryAt: f.clock.Now().Add(24 * time.Hour)}))
		}
	}
	reload(50)
	f.clock.Advance(21 * time.Minute)
	reload(1 + 20) // the planned one, and those of the other minutes
	f.clock.Advance(200 * time.Minute)
	reload(30 + 21)
	f.clock.Advance(365 * 24 * time.Hour)
	reload(51) // their delay is over
	reload(50)
	f.clock.Advance(-365 * 24 * time.Hour)
	reload(50)
}

func triedHooks(t *testing.T, f *fixture) {
	ctx := t.Context()
	m := f.manage(t, "a.example")
	f.complete(t, m.ID, "e", true)
	equal(t, must(f.TryHooks(ctx))(t), 0) // it is due
	for range 10 {
		equal(t, len(f.claimHooks(t, "w")), 1)
		ok(t, f.FailHook(ctx, m.ID, "w", "e", managed.Failure{Reason: "exit 1", RetryAt: f.clock.Now().Add(time.Hour)}))
		equal(t, must(f.TryHooks(ctx))(t), 1)
	}
}

func triesCounted(t *testing.T, f *fixture) { // X44
	ctx := t.Context()
	m := f.manage(t, "a.example")
	wantErr(t, f.CountTry(ctx, "w", m.ID, byStart), managed.ErrLost)
	wantErr(t, f.CountTry(ctx, "w", "none", byStart), managed.ErrLost)
	held := f.claimOne(t, "w")
	for range 3 {
		ok(t, f.CountTry(ctx, "w", m.ID, byStart))
	}
	used := managed.NotNow{Reason: managed.TriesUsed, Most: 3, Per: time.Hour, At: f.clock.Now().Add(time.Hour)}
	equal(t, f.later(t, f.CountTry(ctx, "w", m.ID, byStart)), used)
	equal(t, must(f.ManagedByID(ctx, m.ID))(t), held)

	ok(t, f.FailManaged(ctx, m.ID, "w", managed.Failure{Reason: "DNS", RetryAt: f.clock.Now().Add(24 * time.Hour)}))
	equal(t, must(f.TryFailing(ctx, byStart))(t), 0)
	must(f.TryNow(ctx, m.ID, byPerson))(t) // the fourth is for people
	f.claimOne(t, "w")
	f.later(t, f.CountTry(ctx, "w", m.ID, byPerson.Tries))
	f.clock.Advance(time.Hour)
	ok(t, f.CountTry(ctx, "w", m.ID, byStart))
}
