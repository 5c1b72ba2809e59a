package storagetest

import (
	"strings"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
)

var nonceCases = []testCase{
	{"the first secret wins", func(t *testing.T, f *fixture) { // C3
		ctx := t.Context()
		equal(t, string(must(f.Secret(ctx, "one", []byte("first\x00")))(t)), "first\x00")
		equal(t, string(must(f.Secret(ctx, "one", []byte("second")))(t)), "first\x00")
		equal(t, string(must(f.Secret(ctx, "two", []byte("second")))(t)), "second")
	}},
	{"a nonce is used once", func(t *testing.T, f *fixture) { // C3
		ctx, hour := t.Context(), f.clock.now().Add(time.Hour)
		ok(t, f.UseNonce(ctx, "one", hour))
		wantErr(t, f.UseNonce(ctx, "one", hour), acmeserver.ErrExists)
		ok(t, f.UseNonce(ctx, "One", hour)) // letters count, as base64 needs
		ok(t, f.UseNonce(ctx, "two", hour.Add(time.Hour)))
		f.clock.advance(3 * time.Hour) // the caller refuses it by its time; until the purge, so do we
		wantErr(t, f.UseNonce(ctx, "one", hour), acmeserver.ErrExists)
		long := strings.Repeat("n", 200)
		ok(t, f.UseNonce(ctx, long, hour))
		wantErr(t, f.UseNonce(ctx, long, hour), acmeserver.ErrExists)
	}},
	{"only expired nonces are purged", func(t *testing.T, f *fixture) {
		ctx, now := t.Context(), f.clock.now()
		for i := range 5 {
			ok(t, f.UseNonce(ctx, numbered("old", i), now.Add(-time.Duration(i+1)*time.Second)))
		}
		ok(t, f.UseNonce(ctx, "now", now))
		ok(t, f.UseNonce(ctx, "new", now.Add(time.Second)))
		rounds := 1
		for must(f.PurgeNonces(ctx, now, 2))(t) {
			if rounds++; rounds > 4 {
				t.Fatal("there is always more")
			}
		}
		if rounds < 3 {
			t.Errorf("%d rounds; more than the limit was purged, or something stayed", rounds)
		}
		wantErr(t, f.UseNonce(ctx, "now", now), acmeserver.ErrExists)
		wantErr(t, f.UseNonce(ctx, "new", now.Add(time.Second)), acmeserver.ErrExists)
		for i := range 5 {
			ok(t, f.UseNonce(ctx, numbered("old", i), now.Add(-time.Duration(i+1)*time.Second)))
		}
	}},
}
