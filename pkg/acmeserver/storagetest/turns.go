package storagetest

import (
	"slices"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
)

// turnCases are about orders with the same Share (X5).
var turnCases = []testCase{
	{"one order of a Share is Issuing", func(t *testing.T, f *fixture) {
		ctx := t.Context()
		f.create(t, f.shared("o", "a", "s"))
		p := f.create(t, f.shared("p", "b", "s"))
		f.create(t, f.shared("q", "a", "other"))
		f.update(t, "o", issuing)
		wait := p
		wait.Issuing, wait.Failures = true, 7
		wantErr(t, f.UpdateOrder(ctx, wait), acmeserver.ErrTurn)
		equal(t, must(f.Order(ctx, "p"))(t), p)
		f.update(t, "q", issuing)
		f.update(t, "o", func(o *acmeserver.Order) { o.State = []byte("saved") }) // it has the turn already
		wantErr(t, f.UpdateOrder(ctx, wait), acmeserver.ErrTurn)
		f.update(t, "o", finished)
		f.update(t, "p", issuing)
		stale := wait
		wantErr(t, f.UpdateOrder(ctx, stale), acmeserver.ErrStale) // which counts more than the turn
	}},
	{"orders without a Share wait for none", func(t *testing.T, f *fixture) {
		for _, id := range []string{"o", "p"} {
			f.create(t, f.shared(id, "a", ""))
			f.update(t, id, issuing)
		}
		f.update(t, "o", finished)
		equal(t, must(f.Order(t.Context(), "p"))(t).Version, int64(2))
	}},
	{"the end of a turn makes the others due", func(t *testing.T, f *fixture) {
		ctx, started := t.Context(), f.clock.now()
		f.create(t, f.shared("o", "a", "s"))
		f.clock.advance(time.Second)
		asleep := f.create(t, f.shared("asleep", "b", "s"))
		later := f.shared("later", "c", "s")
		later.DueAt, later.LeaseOwner, later.LeaseUntil = f.clock.now().Add(time.Hour), "w", f.clock.now().Add(time.Minute)
		f.create(t, later)
		pending, other := f.shared("pending", "b", "s"), f.create(t, f.shared("other", "b", "s2"))
		pending.Status = acmeserver.StatusReady
		f.create(t, pending)
		f.update(t, "o", issuing)
		f.update(t, "o", func(o *acmeserver.Order) { o.State = []byte("saved") })
		for _, o := range []acmeserver.Order{asleep, later, pending, other} {
			equal(t, must(f.Order(ctx, o.ID))(t), o)
		}
		f.clock.advance(time.Minute)
		f.complete(t, "o", f.certificate("c"))
		for _, o := range []acmeserver.Order{asleep, later} {
			o.DueAt, o.Version = started.Add(time.Second), 2
			equal(t, must(f.Order(ctx, o.ID))(t), o)
		}
		equal(t, must(f.Order(ctx, "pending"))(t), pending)
		equal(t, must(f.Order(ctx, "other"))(t), other)
		equal(t, must(f.Order(ctx, "o"))(t).DueAt, time.Time{})
	}},
	{"no wake-up is lost", func(t *testing.T, f *fixture) {
		f.create(t, f.shared("o", "a", "s"))
		f.update(t, "o", issuing)
		p := f.create(t, f.shared("p", "a", "s"))
		try := p
		try.Issuing = true
		wantErr(t, f.UpdateOrder(t.Context(), try), acmeserver.ErrTurn)
		f.update(t, "o", finished) // before the other one goes to sleep
		p.DueAt = time.Time{}
		wantErr(t, f.UpdateOrder(t.Context(), p), acmeserver.ErrStale)
		equal(t, ids(f.claim(t, "w", 5)), []string{"p"})
	}},
	{"an order that takes the turn from another Share frees its own", func(t *testing.T, f *fixture) {
		f.create(t, f.shared("o", "a", "s"))
		f.create(t, f.shared("p", "a", "s"))
		f.update(t, "o", issuing)
		f.update(t, "o", func(o *acmeserver.Order) { o.Share = "s2" })
		equal(t, ids(f.claim(t, "w", 5)), []string{"p"})
		f.update(t, "p", issuing)
	}},
	{"a turn can be given back", func(t *testing.T, f *fixture) {
		f.create(t, f.shared("o", "a", "s"))
		f.create(t, f.shared("p", "a", "s"))
		f.update(t, "o", issuing)
		f.update(t, "o", func(o *acmeserver.Order) { o.Issuing = false })
		equal(t, must(f.Order(t.Context(), "o"))(t).DueAt, time.Time{}) // it decided that itself
		f.update(t, "p", issuing)
	}},
	{"the orders of a Share are found", func(t *testing.T, f *fixture) {
		check := func(share, issuing string, others ...string) {
			t.Helper()
			id, found, err := f.OrdersByShare(t.Context(), share, 5)
			ok(t, err)
			slices.Sort(found)
			equal(t, id, issuing)
			equal(t, found, others)
		}
		for _, id := range []string{"o", "p", "q"} {
			f.create(t, f.shared(id, "a", "s"))
		}
		f.create(t, f.shared("other", "a", "s2"))
		f.create(t, f.shared("none", "a", ""))
		ready := f.shared("ready", "a", "s")
		ready.Status = acmeserver.StatusReady
		f.create(t, ready)
		check("s", "", "o", "p", "q")
		f.update(t, "p", issuing)
		f.update(t, "none", issuing)
		check("s", "p", "o", "q")
		_, found, err := f.OrdersByShare(t.Context(), "s", 1)
		ok(t, err)
		equal(t, len(found), 1)
		f.update(t, "p", finished)
		f.complete(t, "q", f.certificate("c"))
		check("s", "", "o")
		for _, share := range strange {
			check(share, "")
		}
	}},
	{"an order can be created Issuing", func(t *testing.T, f *fixture) {
		o := f.shared("o", "a", "s")
		o.Issuing = true
		f.create(t, o)
		f.create(t, f.shared("p", "a", "s"))
		p := must(f.Order(t.Context(), "p"))(t)
		p.Issuing = true
		wantErr(t, f.UpdateOrder(t.Context(), p), acmeserver.ErrTurn)
	}},
}

func issuing(o *acmeserver.Order)  { o.Issuing = true }
func finished(o *acmeserver.Order) { o.Issuing, o.Status = false, acmeserver.StatusInvalid }
