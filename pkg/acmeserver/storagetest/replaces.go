package storagetest

import (
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
)

// replacing returns an order that replaces the certificate c.
func (f *fixture) replacing(id string) acmeserver.Order {
	o := f.order(id, "a")
	o.Replaces = "ari.of-c"
	return o
}

var replaceCases = []testCase{
	{"a certificate is replaced once", func(t *testing.T, f *fixture) {
		ctx := t.Context()
		c := f.issue(t, f.order("o", "a"), f.certificate("c"))
		f.create(t, f.replacing("p"))
		c.ReplacedBy = "p"
		equal(t, must(f.CertificateByID(ctx, "c"))(t), c)
		wantErr(t, f.CreateOrder(ctx, f.replacing("q"), 0), acmeserver.ErrReplaced)
		_, err := f.Order(ctx, "q")
		wantErr(t, err, acmeserver.ErrNotFound)
		equal(t, must(f.CertificateByID(ctx, "c"))(t), c)
		f.complete(t, "p", f.certificate("c2"))
		f.clock.advance(48 * time.Hour) // the order's expiry does not matter any more
		wantErr(t, f.CreateOrder(ctx, f.replacing("q"), 0), acmeserver.ErrReplaced)
	}},
	{"only a certificate of the account can be replaced", func(t *testing.T, f *fixture) {
		ctx := t.Context()
		wantErr(t, f.CreateOrder(ctx, f.replacing("p"), 0), acmeserver.ErrNotFound)
		f.issue(t, f.order("o", "b"), f.certificate("c"))
		wantErr(t, f.CreateOrder(ctx, f.replacing("p"), 0), acmeserver.ErrNotFound)
		_, err := f.Order(ctx, "p")
		wantErr(t, err, acmeserver.ErrNotFound)
		for _, id := range strange[1:] {
			o := f.order("p", "a")
			o.Replaces = id
			wantErr(t, f.CreateOrder(ctx, o, 0), acmeserver.ErrNotFound)
		}
		plain := f.certificate("c1")
		plain.ARIID = ""
		f.issue(t, f.order("o1", "a"), plain)
		f.create(t, f.order("o2", "a")) // replaces nothing
		equal(t, must(f.CertificateByID(ctx, "c1"))(t).ReplacedBy, "")
	}},
	{"an order that became invalid replaces nothing", func(t *testing.T, f *fixture) {
		f.issue(t, f.order("o", "a"), f.certificate("c"))
		f.create(t, f.replacing("p"))
		f.update(t, "p", func(o *acmeserver.Order) { o.Status = acmeserver.StatusInvalid })
		equal(t, must(f.CertificateByID(t.Context(), "c"))(t).ReplacedBy, "")
		f.create(t, f.replacing("q"))
		f.update(t, "p", func(o *acmeserver.Order) { o.Failures = 1 }) // it takes nothing from the other one
		equal(t, must(f.CertificateByID(t.Context(), "c"))(t).ReplacedBy, "q")
		wantErr(t, f.CreateOrder(t.Context(), f.replacing("r"), 0), acmeserver.ErrReplaced)
	}},
	{"an expired order replaces nothing", func(t *testing.T, f *fixture) {
		f.issue(t, f.order("o", "a"), f.certificate("c"))
		p := f.create(t, f.replacing("p"))
		f.clock.advance(p.Expires.Sub(p.CreatedAt))
		f.create(t, f.replacing("q"))
		equal(t, must(f.CertificateByID(t.Context(), "c"))(t).ReplacedBy, "q")
	}},
	{"a refused order replaces nothing", func(t *testing.T, f *fixture) {
		f.issue(t, f.order("o", "a"), f.certificate("c"))
		f.create(t, f.order("o1", "a"))
		wantErr(t, f.CreateOrder(t.Context(), f.replacing("p"), 1), acmeserver.ErrTooMany)
		wantErr(t, f.CreateOrder(t.Context(), f.replacing("o1"), 0), acmeserver.ErrExists)
		equal(t, must(f.CertificateByID(t.Context(), "c"))(t).ReplacedBy, "")
	}},
	{"all records of a certificate are replaced", func(t *testing.T, f *fixture) {
		f.issue(t, f.order("o", "a"), f.certificate("c"))
		second := f.certificate("c")
		second.ID = "d"
		f.issue(t, f.order("o2", "a"), second)
		f.create(t, f.replacing("p"))
		for _, id := range []string{"c", "d"} {
			equal(t, must(f.CertificateByID(t.Context(), id))(t).ReplacedBy, "p")
		}
		f.update(t, "p", func(o *acmeserver.Order) { o.Status = acmeserver.StatusInvalid })
		f.create(t, f.replacing("q"))
	}},
	{"a purged order still replaces if it was valid", func(t *testing.T, f *fixture) {
		ctx := t.Context()
		f.issue(t, f.order("o", "a"), f.certificate("c"))
		f.create(t, f.replacing("p"))
		f.clock.advance(48 * time.Hour)
		must(f.Purge(ctx, f.clock.now(), 10))(t)
		equal(t, must(f.CertificateByID(ctx, "c"))(t).ReplacedBy, "")
		f.create(t, f.replacing("q"))
		f.complete(t, "q", f.certificate("c2"))
		f.clock.advance(48 * time.Hour)
		must(f.Purge(ctx, f.clock.now(), 10))(t)
		_, err := f.Order(ctx, "q")
		wantErr(t, err, acmeserver.ErrNotFound)
		wantErr(t, f.CreateOrder(ctx, f.replacing("r"), 0), acmeserver.ErrReplaced)
	}},
}
