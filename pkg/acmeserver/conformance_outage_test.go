package acmeserver_test

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/rawacme"
	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
)

// faulty is a storage that fails now and then: half of the failed writes are done all the
// same, as if only the answer of the database had been lost.
type faulty struct {
	acmeserver.Storage
	down   atomic.Bool
	mu     sync.Mutex // guards random
	random *rand.Rand
}

var errDown = errors.New("the database has no answer")

func (f *faulty) roll() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.random.IntN(16)
}

func (f *faulty) do(call func() error) error {
	if !f.down.Load() {
		return call()
	}
	switch f.roll() {
	case 0:
		return errDown
	case 1:
		return errors.Join(errDown, ignore(call()))
	}
	return call()
}

func ignore(error) error { return nil }

func (f *faulty) UseNonce(ctx context.Context, id string, expires time.Time) error {
	return f.do(func() error { return f.Storage.UseNonce(ctx, id, expires) })
}

func (f *faulty) CreateAccount(ctx context.Context, a acmeserver.Account, most int) error {
	return f.do(func() error { return f.Storage.CreateAccount(ctx, a, most) })
}

func (f *faulty) AccountByID(ctx context.Context, id string) (a acmeserver.Account, err error) {
	err = f.do(func() error { a, err = f.Storage.AccountByID(ctx, id); return err })
	return a, err
}

func (f *faulty) CreateOrder(ctx context.Context, o acmeserver.Order, most int) error {
	return f.do(func() error { return f.Storage.CreateOrder(ctx, o, most) })
}

func (f *faulty) Order(ctx context.Context, id string) (o acmeserver.Order, err error) {
	err = f.do(func() error { o, err = f.Storage.Order(ctx, id); return err })
	return o, err
}

func (f *faulty) UpdateOrder(ctx context.Context, o acmeserver.Order) error {
	return f.do(func() error { return f.Storage.UpdateOrder(ctx, o) })
}

func (f *faulty) CompleteOrder(ctx context.Context, o acmeserver.Order, c acmeserver.Certificate) error {
	return f.do(func() error { return f.Storage.CompleteOrder(ctx, o, c) })
}

func (f *faulty) ClaimOrders(
	ctx context.Context, owner string, now, until time.Time, limit int,
) (claimed []acmeserver.Order, err error) {
	err = f.do(func() error { claimed, err = f.Storage.ClaimOrders(ctx, owner, now, until, limit); return err })
	if err != nil {
		return nil, err
	}
	return claimed, nil
}

func (f *faulty) ExtendOrder(ctx context.Context, id, owner string, until time.Time) error {
	return f.do(func() error { return f.Storage.ExtendOrder(ctx, id, owner, until) })
}

func (f *faulty) Uncollected(
	ctx context.Context, share, keyHash string, after, joined time.Time,
) (c acmeserver.Certificate, err error) {
	err = f.do(func() error { c, err = f.Storage.Uncollected(ctx, share, keyHash, after, joined); return err })
	return c, err
}

func (f *faulty) SetCollected(ctx context.Context, id string) error {
	return f.do(func() error { return f.Storage.SetCollected(ctx, id) })
}

// persistent sends a request until the server does not fail any more.
func persistent(send func() *response) *response {
	for {
		r := send()
		var p acme.Problem
		if r.status >= 400 {
			r.decode(&p)
		}
		if r.status < 500 && p.Type != acme.BadNonce {
			return r
		}
	}
}

// C12, C14: an outage of the database loses no order, and no client reads an error that
// is not the server's. Instances end in the middle of it.
func TestConformOutage(t *testing.T) {
	conform(t, func(c *acmeserver.Config) {
		quick(c)
		c.Policy = shared{}
		c.Storage = &faulty{Storage: c.Storage, random: rand.New(rand.NewPCG(7, 9))}
	}, func(t *testing.T, w *world) {
		storage := w.cfg.Storage.(*faulty)
		var clients []*client
		for range 6 {
			clients = append(clients, w.register(t))
		}
		orders := make([][]*order, len(clients))
		keys := []crypto.Signer{rawacme.NewKey(), rawacme.NewKey(), rawacme.NewKey()}
		storage.down.Store(true)
		w.outage.Store(true)
		var all sync.WaitGroup
		for i, c := range clients {
			all.Go(func() {
				for n := range 5 {
					payload := orderOf(fmt.Sprintf("n%d.example.com", n))
					r := persistent(func() *response { return c.post(w.dir.NewOrder, payload) })
					if r.status != http.StatusCreated {
						t.Errorf("newOrder: %d %s", r.status, r.body)
						return
					}
					o := c.readOrder(r, r.location())
					csr := o.csr(keys[(i+n)%len(keys)])
					r = persistent(func() *response { return o.finalizeWith(csr) })
					if r.status != http.StatusOK {
						t.Errorf("finalize: %d %s", r.status, r.body)
						return
					}
					orders[i] = append(orders[i], o)
				}
			})
		}
		all.Wait()
		w.start() // the others hang
		storage.down.Store(false)
		w.outage.Store(false)
		w.clock.Add(int64(2 * time.Minute)) // leases that no instance released end
		w.start()
		for i := range orders {
			for n, o := range orders[i] {
				done := o.await("valid")
				chain, _ := o.c.download(done.Certificate)
				key := keys[(i+n)%len(keys)].Public().(interface{ Equal(crypto.PublicKey) bool })
				if leaf := chain[0]; !key.Equal(leaf.PublicKey) || leaf.DNSNames[0] != o.Identifiers[0].Value {
					t.Errorf("the certificate of another order: %q", leaf.DNSNames)
				}
			}
		}
	})
}
