package storagetest

import (
	"slices"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
)

var certificateCases = []testCase{
	{"a certificate comes back as it was", func(t *testing.T, f *fixture) { // C17
		c := f.certificate("c")
		c.Collected, c.ReplacedBy, c.RevokedAt, c.Reason = true, "q", f.clock.now(), 4
		c.OrderID, c.AccountID, c.Owner = "o", "a", "a"
		noZero(t, c)
		f.issue(t, f.order("o", "a"), c)
		equal(t, must(f.CertificateByID(t.Context(), "c"))(t), c)
		bare := acmeserver.Certificate{ID: "d", OrderID: "p", AccountID: "a", Owner: "a"}
		f.issue(t, f.order("p", "a"), bare)
		equal(t, must(f.CertificateByID(t.Context(), "d"))(t), bare)
	}},
	{"an unknown certificate is not found", func(t *testing.T, f *fixture) {
		ctx := t.Context()
		f.issue(t, f.order("o", "a"), f.certificate("c"))
		for _, id := range strange {
			_, err := f.CertificateByID(ctx, id)
			wantErr(t, err, acmeserver.ErrNotFound)
			_, err = f.CertificateByARI(ctx, id)
			wantErr(t, err, acmeserver.ErrNotFound)
			_, err = f.Uncollected(ctx, id, id, time.Time{}, time.Time{})
			wantErr(t, err, acmeserver.ErrNotFound)
			wantErr(t, f.SetCollected(ctx, id), acmeserver.ErrNotFound)
			wantErr(t, f.SetRevoked(ctx, id, f.clock.now(), 1), acmeserver.ErrNotFound)
			equal(t, must(f.CertificatesByFingerprint(ctx, id))(t), nil)
		}
	}},
	{"several accounts may have a certificate", func(t *testing.T, f *fixture) {
		ctx := t.Context()
		var want []acmeserver.Certificate
		for _, id := range []string{"c1", "c2", "c3"} {
			c := f.certificate("c")
			c.ID = id
			want = append(want, f.issue(t, f.order("o"+id, "a"+id), c))
		}
		f.issue(t, f.order("o", "a"), f.certificate("other"))
		got := must(f.CertificatesByFingerprint(ctx, "fingerprint of c"))(t)
		slices.SortFunc(got, func(a, b acmeserver.Certificate) int { return slices.Compare([]string{a.ID}, []string{b.ID}) })
		equal(t, got, want)
	}},
	{"the newest one with an ARI id is found", func(t *testing.T, f *fixture) {
		var want acmeserver.Certificate
		for _, id := range []string{"c2", "c3", "c1"} {
			c := f.certificate("c")
			c.ID = id
			want = f.issue(t, f.order("o"+id, "a"), c)
			f.clock.advance(time.Second)
		}
		equal(t, must(f.CertificateByARI(t.Context(), "ari.of-c"))(t), want)
		plain := f.certificate("plain")
		plain.ARIID = ""
		f.issue(t, f.order("o", "a"), plain)
		_, err := f.CertificateByARI(t.Context(), "")
		wantErr(t, err, acmeserver.ErrNotFound)
	}},
	{"an uncollected certificate is handed out again", uncollected}, // X5
	{"a certificate without a Share is not handed out again", func(t *testing.T, f *fixture) {
		f.issue(t, f.shared("o", "a", ""), f.certificate("c"))
		_, err := f.Uncollected(t.Context(), "", "key", time.Time{}, time.Time{})
		wantErr(t, err, acmeserver.ErrNotFound)
	}},
	{"a revoked certificate is not handed out again", func(t *testing.T, f *fixture) {
		f.issue(t, f.shared("o", "a", "s"), f.certificate("c"))
		ok(t, f.SetRevoked(t.Context(), "fingerprint of c", f.clock.now(), 1))
		_, err := f.Uncollected(t.Context(), "s", "key", time.Time{}, time.Time{})
		wantErr(t, err, acmeserver.ErrNotFound)
	}},
	{"a revocation is recorded once, in all records", func(t *testing.T, f *fixture) { // C18
		ctx := t.Context()
		second := f.certificate("c")
		second.ID = "d"
		c, d := f.issue(t, f.order("o", "a"), f.certificate("c")), f.issue(t, f.order("p", "b"), second)
		other := f.issue(t, f.order("q", "a"), f.certificate("other"))
		ok(t, f.SetRevoked(ctx, c.Fingerprint, f.clock.now(), 4))
		c.RevokedAt, c.Reason, d.RevokedAt, d.Reason = f.clock.now(), 4, f.clock.now(), 4
		f.clock.advance(time.Second)
		wantErr(t, f.SetRevoked(ctx, c.Fingerprint, f.clock.now(), 1), acmeserver.ErrExists)
		for _, want := range []acmeserver.Certificate{c, d, other} {
			equal(t, must(f.CertificateByID(ctx, want.ID))(t), want)
		}
		late := f.certificate("c") // handed out while it was being revoked
		late.ID = "e"
		f.issue(t, f.order("r", "a"), late)
		ok(t, f.SetRevoked(ctx, c.Fingerprint, f.clock.now(), 1))
		equal(t, must(f.CertificateByID(ctx, "c"))(t), c)
		equal(t, must(f.CertificateByID(ctx, "e"))(t).Reason, 1)
	}},
}

func uncollected(t *testing.T, f *fixture) {
	ctx, before := t.Context(), f.clock.now().Add(-time.Millisecond)
	find := func(share, keyHash string, after, joined time.Time) string {
		t.Helper()
		c, err := f.Uncollected(ctx, share, keyHash, after, joined)
		if err != nil {
			wantErr(t, err, acmeserver.ErrNotFound)
			return ""
		}
		equal(t, c, must(f.CertificateByID(ctx, c.ID))(t))
		return c.ID
	}
	first := f.issue(t, f.shared("o1", "a", "s"), f.certificate("c1"))
	now := f.clock.now().Add(time.Hour)
	equal(t, find("s", "key", before, now), "c1")
	equal(t, find("s", "key", first.CreatedAt, now), "")
	equal(t, find("s", "other", before, before), "")
	equal(t, find("s2", "key", before, before), "")
	f.clock.advance(time.Second)
	f.issue(t, f.shared("o2", "a", "s"), f.certificate("c2"))
	equal(t, find("s", "key", before, now), "c2")
	again := f.certificate("c2") // the same certificate for a retry
	again.ID = "c0"
	f.clock.advance(time.Second)
	again.CreatedAt = f.clock.now()
	f.issue(t, f.shared("o3", "b", "s"), again)
	equal(t, find("s", "key", before, now), "c0")
	ok(t, f.SetCollected(ctx, "c0"))
	ok(t, f.SetCollected(ctx, "c0")) // twice is no error
	equal(t, find("s", "key", before, now), "c1")
	equal(t, must(f.CertificateByID(ctx, "c0"))(t).Collected, true)
	equal(t, must(f.CertificateByID(ctx, "c2"))(t).Collected, true)
	equal(t, must(f.CertificateByID(ctx, "c1"))(t).Collected, false)
	ok(t, f.SetCollected(ctx, "c1"))
	equal(t, find("s", "key", before, now), "")
	// An order that waited while it was issued gets it, too.
	equal(t, find("s", "key", now, first.CreatedAt), "c0")
	equal(t, find("s", "key", now, again.CreatedAt), "")
	// The order may be purged before.
	f.issue(t, f.shared("o4", "a", "s"), f.certificate("c4"))
	f.clock.advance(48 * time.Hour)
	must(f.Purge(ctx, f.clock.now(), 100))(t)
	equal(t, find("s", "key", before, f.clock.now()), "c4")
}
