package storagetest

import (
	"errors"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
)

var purgeCases = []testCase{
	{"what ended is purged", func(t *testing.T, f *fixture) {
		ctx := t.Context()
		ok(t, f.CreateAccount(ctx, f.account("a", "a"), 0))
		ok(t, f.UseNonce(ctx, "nonce", f.clock.now()))
		f.issue(t, f.shared("valid", "a", "s"), f.certificate("c"))
		f.create(t, f.authorize("pending", "p.example"))
		short := f.certificate("short")
		short.NotAfter = f.clock.now().Add(time.Hour)
		f.issue(t, f.order("o", "a"), short)
		f.clock.advance(24 * time.Hour) // the orders expire now
		kept := f.create(t, f.dueOrder("kept", "a", 0))
		equal(t, must(f.Purge(ctx, f.clock.now(), 100))(t), false)
		for _, id := range []string{"valid", "pending", "o", "kept"} { // now is not before now
			must(f.Order(ctx, id))(t)
		}
		_, err := f.CertificateByID(ctx, "short")
		wantErr(t, err, acmeserver.ErrNotFound)
		must(f.Purge(ctx, f.clock.now().Add(time.Millisecond), 100))(t)
		for _, id := range []string{"valid", "pending", "o"} {
			_, err := f.Order(ctx, id)
			wantErr(t, err, acmeserver.ErrNotFound)
		}
		equal(t, must(f.Order(ctx, "kept"))(t), kept)
		equal(t, must(f.OrdersByAccount(ctx, "a", "", 10))(t), []string{"kept"})
		equal(t, must(f.OrdersByAccount(ctx, "a", "valid", 10))(t), nil)
		equal(t, must(f.Authorized(ctx, "a", []string{"p.example"}, kept.CreatedAt.Add(-time.Hour)))(t), false)
		must(f.CertificateByID(ctx, "c"))(t)
		must(f.AccountByID(ctx, "a"))(t)
		wantErr(t, f.UseNonce(ctx, "nonce", f.clock.now().Add(-24*time.Hour)), acmeserver.ErrExists)
		f.clock.advance(90 * 24 * time.Hour)
		must(f.Purge(ctx, f.clock.now(), 100))(t)
		equal(t, must(f.CertificatesByFingerprint(ctx, "fingerprint of c"))(t), nil)
		_, err = f.CertificateByARI(ctx, "ari.of-c")
		wantErr(t, err, acmeserver.ErrNotFound)
		_, err = f.Uncollected(ctx, "s", "key", time.Time{}, time.Time{})
		wantErr(t, err, acmeserver.ErrNotFound)
		f.create(t, f.order("valid", "a")) // nothing is left of the former one
	}},
	{"a purge has a limit", func(t *testing.T, f *fixture) {
		ctx := t.Context()
		for i := range 5 {
			c := f.certificate(numbered("c", i))
			c.NotAfter = f.clock.now().Add(time.Hour)
			f.issue(t, f.order(numbered("o", i), "a"), c)
		}
		left := func() (orders, certificates int) {
			for i := range 5 {
				if _, err := f.Order(ctx, numbered("o", i)); !errors.Is(err, acmeserver.ErrNotFound) {
					ok(t, err)
					orders++
				}
				if _, err := f.CertificateByID(ctx, numbered("c", i)); !errors.Is(err, acmeserver.ErrNotFound) {
					ok(t, err)
					certificates++
				}
			}
			return orders, certificates
		}
		f.clock.advance(48 * time.Hour)
		for _, want := range []int{3, 1} {
			equal(t, must(f.Purge(ctx, f.clock.now(), 2))(t), true)
			orders, certificates := left()
			equal(t, orders, want)
			equal(t, certificates, want)
		}
		equal(t, must(f.Purge(ctx, f.clock.now(), 2))(t), false)
		orders, certificates := left()
		equal(t, orders+certificates, 0)
	}},
	{"a purged order gives its turn away", func(t *testing.T, f *fixture) {
		ctx := t.Context()
		f.create(t, f.shared("o", "a", "s"))
		f.update(t, "o", issuing)
		f.clock.advance(time.Hour)
		f.create(t, f.shared("p", "a", "s"))
		f.clock.advance(23*time.Hour + time.Millisecond)
		must(f.Purge(ctx, f.clock.now(), 10))(t)
		equal(t, ids(f.claim(t, "w", 5)), []string{"p"})
		f.update(t, "p", issuing)
	}},
}
