package storagetest

import (
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
)

// Reopen checks what must hold between several opens of one storage. Each call of open
// must open the same one, which is empty at first. release must let it go.
func Reopen(t *testing.T, open func(t *testing.T, now func() time.Time) (s acmeserver.Storage, release func())) {
	ctx, clock := t.Context(), newClock()
	storage, release := open(t, clock.now)
	f := &fixture{storage, clock}
	hour := clock.now().Add(time.Hour)
	a := f.account("a", "a")
	ok(t, f.CreateAccount(ctx, a, 0))
	must(f.Secret(ctx, "s", []byte("value")))(t)
	ok(t, f.UseNonce(ctx, "nonce", hour))
	f.create(t, f.shared("o", "a", "s"))
	o := f.update(t, "o", func(o *acmeserver.Order) { o.Issuing, o.State, o.DueAt = true, []byte("upstream"), clock.now() })
	f.create(t, f.authorize("auth", "n.example"))
	c := f.issue(t, f.order("p", "a"), f.certificate("c"))
	ok(t, f.SetCollected(ctx, "c"))
	c.Collected = true
	release()

	storage, release = open(t, clock.now)
	defer release()
	f = &fixture{storage, clock}
	wantErr(t, f.UseNonce(ctx, "nonce", hour), acmeserver.ErrExists) // C3
	equal(t, string(must(f.Secret(ctx, "s", nil))(t)), "value")
	equal(t, must(f.AccountByKey(ctx, a.Thumbprint))(t), a)
	equal(t, must(f.CertificateByID(ctx, "c"))(t), c)
	equal(t, f.authorized(t, "n.example"), true)
	equal(t, must(f.Order(ctx, "o"))(t), o)
	q := f.create(t, f.shared("q", "a", "s")) // the issuance goes on, so the turn is taken
	q.Issuing = true
	wantErr(t, f.UpdateOrder(ctx, q), acmeserver.ErrTurn)
	equal(t, ids(f.claim(t, "w", 5)), []string{"o"})

	another, releaseAnother := open(t, clock.now) // two at once share the work
	defer releaseAnother()
	g := &fixture{another, clock}
	equal(t, g.claim(t, "w2", 5), nil)
	f.create(t, f.dueOrder("r", "a", 0))
	equal(t, ids(g.claim(t, "w2", 5)), []string{"r"})
	wantErr(t, g.UseNonce(ctx, "nonce", hour), acmeserver.ErrExists)
	equal(t, string(must(g.Secret(ctx, "s", nil))(t)), "value")
}
