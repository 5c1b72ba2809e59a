package storagetest

import (
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
)

const (
	year   = 365 * 24 * time.Hour
	margin = 10 * time.Minute
)

// correct corrects the dates of orders and returns how many were wrong.
func (f *fixture) correct(t *testing.T, limit int) int {
	t.Helper()
	now := f.clock.now()
	return must(f.CorrectDates(t.Context(), now, now.Add(margin), limit))(t)
}

// dateCases are about a clock that was ahead for some time.
var dateCases = []testCase{
	{"right dates stay", func(t *testing.T, f *fixture) {
		ctx := t.Context()
		f.create(t, f.dueOrder("due", "a", 0))
		equal(t, ids(f.claim(t, "w", 5)), []string{"due"})
		f.clock.advance(margin) // these were created while the clock was a little ahead
		f.create(t, f.order("pending", "a"))
		waiting := f.shared("waiting", "a", "s")
		waiting.DueAt = waiting.Expires
		f.create(t, waiting)
		later := f.dueOrder("later", "a", 20*time.Hour)
		later.LeaseOwner, later.LeaseUntil = "w", f.clock.now()
		f.create(t, later)
		f.issue(t, f.order("valid", "a"), f.certificate("c"))
		all := []string{"due", "pending", "waiting", "later", "valid"}
		before := map[string]acmeserver.Order{}
		for _, id := range all {
			before[id] = must(f.Order(ctx, id))(t)
		}
		f.clock.advance(-margin)
		equal(t, f.correct(t, 100), 0)
		for _, id := range all {
			equal(t, must(f.Order(ctx, id))(t), before[id])
		}
	}},
	{"orders from the future are deleted", func(t *testing.T, f *fixture) {
		ctx := t.Context()
		f.create(t, f.order("now", "a"))
		old := f.order("old", "a")
		f.issue(t, old, f.certificate("c"))
		f.clock.advance(margin + time.Millisecond)
		f.create(t, f.authorize("authorized", "p.example"))
		f.clock.advance(100 * year)
		f.issue(t, f.order("valid", "a"), f.certificate("later"))
		replacing := f.order("replacing", "a")
		replacing.Replaces = "ari.of-c"
		f.create(t, replacing)
		leased := f.dueOrder("leased", "a", 0)
		f.create(t, leased)
		f.claim(t, "w", 5)
		f.clock.advance(-100*year - margin - time.Millisecond)
		equal(t, f.correct(t, 100), 4)
		for _, id := range []string{"authorized", "valid", "replacing", "leased"} {
			_, err := f.Order(ctx, id)
			wantErr(t, err, acmeserver.ErrNotFound)
		}
		equal(t, must(f.OrdersByAccount(ctx, "a", "", 10))(t), []string{"old", "now"})
		equal(t, must(f.Authorized(ctx, "a", []string{"p.example"}, f.clock.now()))(t), false)
		must(f.CertificateByID(ctx, "later"))(t)
		replacing = f.order("again", "a")
		replacing.Replaces = "ari.of-c"
		f.create(t, replacing) // the deleted one gave the certificate up
		equal(t, f.correct(t, 100), 0)
	}},
	{"an order from the future that is processing becomes due", func(t *testing.T, f *fixture) {
		f.clock.advance(year)
		first := f.shared("first", "a", "s")
		first.Issuing, first.DueAt = true, f.clock.now()
		f.create(t, first)
		f.claim(t, "w", 5) // by a process that was killed
		asleep := f.create(t, f.shared("asleep", "a", "s"))
		f.clock.advance(-year)
		waiting := f.shared("waiting", "a", "s")
		waiting.DueAt = waiting.Expires
		f.create(t, waiting)
		equal(t, f.correct(t, 100), 1)
		claimed := f.claim(t, "w2", 5)
		equal(t, ids(claimed), []string{"first"})
		equal(t, claimed[0].Version, int64(4)) // so that the former holder's update fails
		equal(t, f.correct(t, 100), 0)         // while it is held
		f.update(t, "first", finished)
		equal(t, must(f.Order(t.Context(), "asleep"))(t).DueAt, asleep.CreatedAt)
		equal(t, ids(f.claim(t, "w2", 5)), []string{"waiting"})
		equal(t, f.correct(t, 100), 2) // the first one ended, the other is due in a year
		equal(t, ids(f.claim(t, "w2", 5)), []string{"asleep"})
	}},
	{"a lease from the future ends", func(t *testing.T, f *fixture) {
		f.create(t, f.dueOrder("o", "a", 0))
		f.create(t, f.dueOrder("p", "a", 0))
		f.clock.advance(year)
		held := f.claim(t, "w", 2)
		f.update(t, "p", func(o *acmeserver.Order) {
			o.DueAt, o.LeaseOwner, o.LeaseUntil = f.clock.now().Add(time.Second), "", time.Time{}
		})
		f.clock.advance(-year)
		equal(t, f.claim(t, "w2", 5), nil)
		equal(t, f.correct(t, 100), 2)
		equal(t, len(f.claim(t, "w2", 5)), 2)
		wantErr(t, f.UpdateOrder(t.Context(), held[0]), acmeserver.ErrStale)
		wantErr(t, f.ExtendOrder(t.Context(), "o", "w", f.clock.now().Add(time.Hour)), acmeserver.ErrStale)
	}},
	{"a correction has a limit", func(t *testing.T, f *fixture) {
		f.clock.advance(year)
		for i := range 5 {
			f.create(t, f.order(numbered("o", i), "a"))
		}
		f.clock.advance(-year)
		for i := range 5 { // they expire earlier
			f.create(t, f.order(numbered("p", i), "a"))
		}
		for _, want := range []int{2, 2, 1, 0} {
			equal(t, f.correct(t, 2), want)
		}
		equal(t, len(must(f.OrdersByAccount(t.Context(), "a", "", 10))(t)), 5)
	}},
}
