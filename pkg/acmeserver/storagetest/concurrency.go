package storagetest

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
)

var concurrencyCases = []testCase{
	{"no nonce is used twice", raceNonces}, // C3
	{"one secret wins", func(t *testing.T, f *fixture) {
		var got [workers]string
		each(func(i int) {
			b, err := f.Secret(t.Context(), "s", []byte{byte(i)})
			if err != nil {
				t.Error(err)
			}
			got[i] = string(b)
		})
		equal(t, slices.Compact(got[:]), got[:1])
	}},
	{"a key gets one account", func(t *testing.T, f *fixture) {
		for round := range 5 {
			race(t, 1, acmeserver.ErrExists, func(i int) error {
				a := f.account(numbered("a", round*workers+i), "o")
				a.Thumbprint = numbered("key", round)
				return f.CreateAccount(t.Context(), a, 0)
			})
		}
	}},
	{"the limit of accounts holds", func(t *testing.T, f *fixture) {
		race(t, 3, acmeserver.ErrTooMany, func(i int) error {
			return f.CreateAccount(t.Context(), f.account(numbered("a", i), "o"), 3)
		})
	}},
	{"the limit of orders holds", func(t *testing.T, f *fixture) {
		race(t, 3, acmeserver.ErrTooMany, func(i int) error {
			return f.CreateOrder(t.Context(), f.order(numbered("o", i), "a"), 3)
		})
	}},
	{"one order replaces a certificate", func(t *testing.T, f *fixture) {
		f.issue(t, f.order("o", "a"), f.certificate("c"))
		race(t, 1, acmeserver.ErrReplaced, func(i int) error {
			return f.CreateOrder(t.Context(), f.replacing(numbered("o", i)), 0)
		})
	}},
	{"one of several updates wins", func(t *testing.T, f *fixture) {
		a, o := f.account("a", "o"), f.create(t, f.order("o", "a"))
		ok(t, f.CreateAccount(t.Context(), a, 0))
		for range 5 {
			race(t, 1, acmeserver.ErrStale, func(int) error { return f.UpdateOrder(t.Context(), o) })
			race(t, 1, acmeserver.ErrStale, func(int) error { return f.UpdateAccount(t.Context(), a) })
			o.Version, a.Version = o.Version+1, a.Version+1
		}
	}},
	{"one revocation wins", func(t *testing.T, f *fixture) {
		c := f.issue(t, f.order("o", "a"), f.certificate("c"))
		race(t, 1, acmeserver.ErrExists, func(i int) error {
			return f.SetRevoked(t.Context(), c.Fingerprint, f.clock.now(), i)
		})
	}},
	{"one order of a Share is Issuing", raceTurns},          // X5
	{"every due order is claimed exactly once", raceClaims}, // C12
	{"every waiting order has its turn", raceWaiting},       // X5
	{"a purge disturbs no other caller", racePurge},
}

// race lets the workers do the same, of which want must succeed. The others must get
// the error.
func race(t *testing.T, want int64, refused error, do func(i int) error) {
	t.Helper()
	var won atomic.Int64
	each(func(i int) {
		switch err := do(i); {
		case err == nil:
			won.Add(1)
		case !errors.Is(err, refused):
			t.Errorf("error is %v, want %v", err, refused)
		}
	})
	equal(t, won.Load(), want)
}

func raceNonces(t *testing.T, f *fixture) {
	ctx := t.Context()
	expires := f.clock.now().Add(time.Hour)
	const nonces = 100
	var used, again atomic.Int64
	var pool sync.WaitGroup
	for range 4 * workers { // each tries all of them
		pool.Go(func() {
			for i := range nonces {
				switch err := f.UseNonce(ctx, numbered("n", i), expires); {
				case err == nil:
					used.Add(1)
				case errors.Is(err, acmeserver.ErrExists):
					again.Add(1)
				default:
					t.Error(err)
				}
			}
		})
	}
	pool.Wait()
	equal(t, used.Load(), int64(nonces))
	equal(t, again.Load(), int64(nonces*(4*workers-1)))
}

func raceTurns(t *testing.T, f *fixture) {
	for i := range workers {
		f.create(t, f.shared(numbered("o", i), "a", "s"))
	}
	for range 3 {
		var holder atomic.Pointer[acmeserver.Order]
		race(t, 1, acmeserver.ErrTurn, func(i int) error {
			o, err := f.Order(t.Context(), numbered("o", i))
			if err != nil {
				return err
			}
			o.Issuing = true
			if err := f.UpdateOrder(t.Context(), o); err != nil {
				return err
			}
			o.Version++
			holder.Store(&o)
			return nil
		})
		o := *holder.Load()
		o.Issuing = false
		ok(t, f.UpdateOrder(t.Context(), o))
	}
}

func raceClaims(t *testing.T, f *fixture) {
	const orders = 100
	for i := range orders {
		f.create(t, f.dueOrder(numbered("o", i), numbered("a", i%7), 0))
	}
	var mu sync.Mutex
	claims := map[string]int{} // guarded by mu
	each(func(i int) {
		for range orders { // more would be an order claimed twice
			got, err := f.ClaimOrders(t.Context(), numbered("w", i), f.clock.now(), f.clock.now().Add(time.Minute), 7)
			if err != nil {
				t.Error(err)
			}
			if len(got) == 0 {
				return
			}
			for _, o := range got {
				mu.Lock()
				claims[o.ID]++
				mu.Unlock()
				if o.LeaseOwner != numbered("w", i) {
					t.Errorf("%s is leased by %s", o.ID, o.LeaseOwner)
				}
			}
		}
	})
	equal(t, len(claims), orders)
	for id, n := range claims {
		if n != 1 {
			t.Errorf("%s was claimed %d times", id, n)
		}
	}
}

// raceWaiting issues many orders of one Share as the Server does: an order that is not
// its turn sleeps without a due time, so one that is not woken stays for ever.
func raceWaiting(t *testing.T, f *fixture) {
	ctx := t.Context()
	const orders = 24
	for i := range orders {
		o := f.shared(numbered("o", i), numbered("a", i%3), "s")
		o.DueAt = o.CreatedAt
		f.create(t, o)
	}
	var done, running atomic.Int64
	turn := func(o acmeserver.Order) error {
		o.Issuing = true
		err := f.UpdateOrder(ctx, o)
		if errors.Is(err, acmeserver.ErrTurn) {
			o.Issuing, o.DueAt, o.LeaseOwner, o.LeaseUntil = false, time.Time{}, "", time.Time{}
			return f.UpdateOrder(ctx, o)
		}
		if err != nil {
			return err
		}
		if running.Add(1) > 1 {
			t.Error("two orders have the turn")
		}
		o.Version++
		o.Issuing, o.Status, o.DueAt, o.LeaseOwner, o.LeaseUntil = false, acmeserver.StatusValid, time.Time{}, "", time.Time{}
		c := f.certificate("of " + o.ID)
		running.Add(-1)
		done.Add(1)
		return f.CompleteOrder(ctx, o, c)
	}
	deadline := time.Now().Add(time.Minute)
	each(func(i int) {
		for done.Load() < orders && time.Now().Before(deadline) {
			got, err := f.ClaimOrders(ctx, numbered("w", i), f.clock.now(), f.clock.now().Add(time.Minute), 2)
			if err != nil {
				t.Error(err)
				return
			}
			for _, o := range got {
				for err := turn(o); err != nil; err = turn(o) {
					if !errors.Is(err, acmeserver.ErrStale) {
						t.Error(err)
						return
					}
					if o, err = f.Order(ctx, o.ID); err != nil {
						t.Error(err)
						return
					}
				}
			}
		}
	})
	equal(t, done.Load(), int64(orders))
}

func racePurge(t *testing.T, f *fixture) {
	ctx, now := t.Context(), f.clock.now()
	for i := range 50 {
		o := f.order(numbered("old", i), "a")
		o.Expires = now.Add(-time.Hour)
		c := f.certificate(numbered("old", i))
		c.NotAfter = now.Add(-time.Hour)
		f.issue(t, o, c)
	}
	each(func(i int) {
		if i%2 == 0 {
			for more := true; more; {
				var err error
				if more, err = f.Purge(ctx, now, 7); err != nil {
					t.Error(err)
				}
			}
			return
		}
		for j := range 10 {
			o := f.order(numbered("new", i*10+j), "a")
			err := f.CreateOrder(ctx, o, 0)
			if err == nil {
				o.Status = acmeserver.StatusValid
				err = f.CompleteOrder(ctx, o, f.certificate(o.ID))
			}
			if err != nil {
				t.Error(err)
			}
		}
	})
	equal(t, len(must(f.OrdersByAccount(ctx, "a", "", 1000))(t)), 10*workers/2)
}
