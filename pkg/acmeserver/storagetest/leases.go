package storagetest

import (
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
)

var leaseCases = []testCase{
	{"a due order is claimed once", func(t *testing.T, f *fixture) {
		o := f.create(t, f.dueOrder("o", "a", time.Second))
		f.create(t, f.order("never", "a"))
		equal(t, f.claim(t, "w", 5), nil)
		f.clock.advance(time.Second)
		o.LeaseOwner, o.LeaseUntil, o.Version = "w", f.clock.now().Add(time.Minute), 2
		equal(t, f.claim(t, "w", 5), []acmeserver.Order{o})
		equal(t, must(f.Order(t.Context(), "o"))(t), o)
		equal(t, f.claim(t, "w2", 5), nil)
		equal(t, f.claim(t, "w", 5), nil) // who works on it already
		f.clock.advance(time.Minute)
		o.LeaseOwner, o.LeaseUntil, o.Version = "w2", f.clock.now().Add(time.Minute), 3
		equal(t, f.claim(t, "w2", 5), []acmeserver.Order{o})
		equal(t, f.claim(t, "w", 0), nil)
	}},
	{"a lease needs an owner", func(t *testing.T, f *fixture) {
		f.create(t, f.dueOrder("o", "a", 0))
		if _, err := f.ClaimOrders(t.Context(), "", f.clock.now(), f.clock.now().Add(time.Minute), 5); err == nil {
			t.Error("claimed without an owner")
		}
		wantErr(t, f.ExtendOrder(t.Context(), "o", "", f.clock.now().Add(time.Minute)), acmeserver.ErrStale)
	}},
	{"the former holder's update fails", func(t *testing.T, f *fixture) {
		f.create(t, f.dueOrder("o", "a", 0))
		held := f.claim(t, "w", 5)[0]
		f.clock.advance(time.Minute)
		f.claim(t, "w2", 5)
		wantErr(t, f.UpdateOrder(t.Context(), held), acmeserver.ErrStale)
		wantErr(t, f.CompleteOrder(t.Context(), held, f.certificate("c")), acmeserver.ErrStale)
		wantErr(t, f.ExtendOrder(t.Context(), "o", "w", f.clock.now().Add(time.Hour)), acmeserver.ErrStale)
	}},
	{"the earliest comes first", func(t *testing.T, f *fixture) {
		for i, after := range []int{3, 1, 2, 4} {
			f.create(t, f.dueOrder(numbered("o", i), "a", time.Duration(after)*time.Second))
		}
		f.clock.advance(time.Minute)
		equal(t, ids(f.claim(t, "w", 2)), []string{"o001", "o002"})
		equal(t, ids(f.claim(t, "w", 5)), []string{"o000", "o003"})
	}},
	{"owners take turns", claimsInTurns}, // X42
	{"a claimed order is found under a flood of due ones", func(t *testing.T, f *fixture) {
		const flood = 40 * workers
		each(func(worker int) {
			for i := worker; i < flood; i += workers {
				if err := f.CreateOrder(t.Context(), f.dueOrder(numbered("f", i), "flood", time.Duration(i)*time.Millisecond), 0); err != nil {
					t.Error(err)
				}
			}
		})
		f.create(t, f.dueOrder("o", "a", time.Second))
		f.clock.advance(time.Minute)
		equal(t, ids(f.claim(t, "w", 1)), []string{"f000"})
		equal(t, ids(f.claim(t, "w", 1)), []string{"o"})
		equal(t, len(f.claim(t, "w", flood)) > 0, true)
	}},
	{"a lease is extended", func(t *testing.T, f *fixture) {
		ctx := t.Context()
		f.create(t, f.dueOrder("o", "a", 0))
		o := f.claim(t, "w", 5)[0]
		o.LeaseUntil = f.clock.now().Add(time.Hour)
		ok(t, f.ExtendOrder(ctx, "o", "w", o.LeaseUntil))
		equal(t, must(f.Order(ctx, "o"))(t), o) // with the same version
		f.clock.advance(2 * time.Minute)
		equal(t, f.claim(t, "w2", 5), nil)
		wantErr(t, f.ExtendOrder(ctx, "o", "w2", o.LeaseUntil), acmeserver.ErrStale)
		for _, id := range strange {
			wantErr(t, f.ExtendOrder(ctx, id, "w", o.LeaseUntil), acmeserver.ErrStale)
		}
		f.clock.advance(2 * time.Hour)
		ok(t, f.ExtendOrder(ctx, "o", "w", f.clock.now().Add(time.Minute))) // no other instance claimed it
		equal(t, f.claim(t, "w2", 5), nil)
	}},
	{"an update does not shorten a lease", func(t *testing.T, f *fixture) {
		ctx := t.Context()
		f.create(t, f.dueOrder("o", "a", 0))
		o := f.claim(t, "w", 5)[0]
		until := f.clock.now().Add(time.Hour)
		ok(t, f.ExtendOrder(ctx, "o", "w", until))
		ok(t, f.UpdateOrder(ctx, o)) // has the lease's former end
		equal(t, must(f.Order(ctx, "o"))(t).LeaseUntil, until)
		longer := f.update(t, "o", func(o *acmeserver.Order) { o.LeaseUntil = until.Add(time.Hour) })
		equal(t, longer.LeaseUntil, until.Add(time.Hour))
		f.update(t, "o", func(o *acmeserver.Order) { o.LeaseOwner, o.LeaseUntil = "", time.Time{} })
		wantErr(t, f.ExtendOrder(ctx, "o", "w", until), acmeserver.ErrStale)
		equal(t, ids(f.claim(t, "w2", 5)), []string{"o"})
		other := f.update(t, "o", func(o *acmeserver.Order) { o.LeaseOwner, o.LeaseUntil = "w3", f.clock.now() })
		equal(t, other.LeaseUntil, f.clock.now())
	}},
	{"the next time is known", nextTimes},
}

// claimsInTurns lets one owner have most of what is due.
func claimsInTurns(t *testing.T, f *fixture) {
	for i := range 4 {
		f.create(t, f.dueOrder(numbered("a", i), "a", time.Duration(i)*time.Millisecond))
	}
	f.create(t, f.dueOrder("b0", "b", time.Second))
	f.create(t, f.dueOrder("b1", "b", 2*time.Second))
	f.create(t, f.dueOrder("c0", "c", 3*time.Second))
	f.clock.advance(time.Minute)
	equal(t, ids(f.claim(t, "w", 2)), []string{"a000", "b0"})
	// c holds nothing, the others one each.
	equal(t, ids(f.claim(t, "w", 3)), []string{"c0", "a001", "b1"})
	equal(t, ids(f.claim(t, "w", 9)), []string{"a002", "a003"})
	f.clock.advance(time.Minute) // no lease is left
	equal(t, ids(f.claim(t, "w2", 3)), []string{"a000", "b0", "c0"})
}

func nextTimes(t *testing.T, f *fixture) {
	ctx, start := t.Context(), f.clock.now()
	next := func() time.Duration {
		t.Helper()
		return must(f.NextOrder(ctx, f.clock.now()))(t).Sub(start)
	}
	none := func() {
		t.Helper()
		_, err := f.NextOrder(ctx, f.clock.now())
		wantErr(t, err, acmeserver.ErrNotFound)
	}
	none()
	f.create(t, f.order("never", "a"))
	none()
	f.create(t, f.dueOrder("o", "a", time.Second))
	f.create(t, f.dueOrder("p", "a", time.Hour))
	equal(t, next(), time.Second)
	f.clock.advance(2 * time.Second)
	equal(t, next(), time.Second) // it is due
	f.claim(t, "w", 5)
	equal(t, next(), 62*time.Second) // the end of the lease
	f.update(t, "o", func(o *acmeserver.Order) { o.DueAt = start.Add(10 * time.Minute) })
	equal(t, next(), 10*time.Minute) // later than its lease
	f.update(t, "o", func(o *acmeserver.Order) {
		o.DueAt, o.LeaseOwner, o.LeaseUntil = start.Add(time.Minute), "", time.Time{}
	})
	equal(t, next(), time.Minute)
	f.clock.advance(time.Minute)
	f.claim(t, "w", 5)
	f.clock.advance(3 * time.Minute)
	equal(t, next(), time.Minute) // the lease ended
	f.update(t, "o", func(o *acmeserver.Order) { o.DueAt = time.Time{} })
	equal(t, next(), time.Hour)
	f.update(t, "p", func(o *acmeserver.Order) { o.DueAt = time.Time{} })
	none()
}
