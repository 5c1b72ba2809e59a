package storetest

import (
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/store"
	"github.com/acmeproxy/acmeproxy/pkg/trail"
)

// Reopen checks what must hold between several opens of one database. Each
// call of open must open the same one, which is empty at first.
func Reopen(t *testing.T, open func(t *testing.T, now func() time.Time) *store.Store) {
	t.Run("everything is kept", func(t *testing.T) { reopenKeeps(t, open) })
	t.Run("two instances share the work", func(t *testing.T) {
		clock := NewClock()
		stores := []*store.Store{open(t, clock.Now), open(t, clock.Now)}
		f := &fixture{stores[0], clock}
		claimAll(t, stores, f.manage)
		ok(t, stores[0].Close())
		ok(t, stores[1].Close())
	})
}

func reopenKeeps(t *testing.T, open func(t *testing.T, now func() time.Time) *store.Store) { // X7, A28
	ctx, clock := t.Context(), NewClock()
	f := &fixture{open(t, clock.Now), clock}
	account := must(f.CreateAccount(ctx, acme.Account{DirectoryURL: directory, URL: "u", SealedKey: []byte("k")}))(t)
	must(f.CreateSecret(ctx, "api-key", []byte("sealed")))(t)
	client := must(f.CreateClient(ctx, clients.Client{Name: "web1", Recipients: []string{"age1x"}, Grants: []clients.Grant{{Names: []string{"a.example"}}}},
		clients.Credential{Kind: clients.Bearer, Verifier: hash("t")}))(t)
	must(f.TakeQuota(ctx, client.ID, clock.Now(), 1))(t)
	m := must2(f.EnsureManaged(ctx, managed.Certificate{ClientID: client.ID, Mode: "certificate-agent", Names: []string{"kept.example"}}))(t)
	f.claimOne(t, "w")
	ok(t, f.CompleteManaged(ctx, "w", f.bundle(m.ID, "e1"), clock.Now(), true))
	f.claimOne(t, "w")
	ok(t, f.SaveOrder(ctx, "w", managed.Order{ManagedID: m.ID, URL: "order"}))
	ok(t, f.AppendAudit(ctx, trail.Entry{Outcome: "done"}))
	m = must(f.ManagedByID(ctx, m.ID))(t)
	ok(t, f.Close())
	if f.Ping(ctx) == nil {
		t.Fatal("a closed store answers")
	}

	f.Store = open(t, clock.Now)
	equal(t, must(f.AccountByDirectory(ctx, directory))(t), account)
	equal(t, string(must(f.Secret(ctx, "api-key"))(t)), "sealed")
	found, _, err := f.ClientByCredential(ctx, clients.Bearer, hash("t"))
	ok(t, err)
	equal(t, found, client)
	equal(t, must(f.TakeQuota(ctx, client.ID, clock.Now(), 1))(t), false)
	equal(t, must(f.ManagedByID(ctx, m.ID))(t), m) // still leased: the owner may be another instance
	equal(t, must(f.BundleFor(ctx, m.ID))(t).ETag, "e1")
	equal(t, must(f.OrderFor(ctx, m.ID))(t).URL, "order")
	equal(t, must(f.PendingHookFor(ctx, m.ID))(t).ETag, "e1")
	equal(t, len(must(f.Audit(ctx, trail.Query{}))(t)), 1)
	_, _, err = f.EnsureManaged(ctx, managed.Certificate{Names: []string{"kept.example"}})
	wantErr(t, err, managed.ErrOwned)
	ok(t, f.DeleteManaged(ctx, m.ID))
	ok(t, f.Close())
}
