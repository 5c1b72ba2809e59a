// Package storagetest tests the contract of [acmeserver.Storage]: [Run] must pass for
// every implementation, and [Reopen] for every one that survives its process. It must
// use only the methods of the interface, so that it tests only what holds for all of
// them.
//
//	func TestStorage(t *testing.T) {
//		storagetest.Run(t, func(t *testing.T, now func() time.Time) acmeserver.Storage {
//			return acmeserver.NewMemory()
//		})
//	}
package storagetest

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
)

// clock is a clock that stands still until it is advanced. It may be used concurrently.
type clock struct {
	mu sync.Mutex
	t  time.Time // guarded by mu
}

// newClock returns a clock that shows a whole millisecond, the precision that a storage
// must have.
func newClock() *clock { return &clock{t: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// fixture is an empty storage with its clock.
type fixture struct {
	acmeserver.Storage
	clock *clock
}

// Run tests the whole contract. open must return an empty storage with the clock now,
// and release what it uses when the test ends. It is called concurrently.
func Run(t *testing.T, open func(t *testing.T, now func() time.Time) acmeserver.Storage) {
	for _, group := range []struct {
		name  string
		cases []testCase
	}{
		{"nonces", nonceCases},
		{"accounts", accountCases},
		{"orders", orderCases},
		{"replaces", replaceCases},
		{"turns", turnCases},
		{"leases", leaseCases},
		{"authorizations", authorizationCases},
		{"certificates", certificateCases},
		{"purge", purgeCases},
		{"dates", dateCases},
		{"copies", copyCases},
		{"concurrency", concurrencyCases},
	} {
		t.Run(group.name, func(t *testing.T) {
			for _, c := range group.cases {
				t.Run(c.name, func(t *testing.T) {
					t.Parallel() // each has a storage of its own
					clock := newClock()
					c.test(t, &fixture{open(t, clock.now), clock})
				})
			}
		})
	}
}

type testCase struct {
	name string
	test func(t *testing.T, f *fixture)
}

// strange holds IDs that a client can send, which no record has.
var strange = []string{"", "none", "\x00", "a\x00b", "\xff\xfe", "'; --", "%"}

// must fails the test if err is not nil; it returns v.
func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error is %v, want %v", err, want)
	}
}

// equal compares as callers do: an empty list may come back as nil.
func equal[T any](t *testing.T, got, want T) {
	t.Helper()
	if d := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Addr{})); d != "" {
		t.Fatalf("-want +got:\n%s", d)
	}
}

// account returns an account of owner with every field set.
func (f *fixture) account(id, owner string) acmeserver.Account {
	return acmeserver.Account{
		ID: id, Thumbprint: "thumbprint of " + id, Key: []byte(`{"kty":"` + id + `"}`), Status: acmeserver.StatusValid,
		Contacts: []string{"mailto:a@example.com", "mailto:line\nbreak\x00@example.com"}, Terms: "https://ca.example/terms", Owner: owner,
		Binding: []byte("binding"), Kid: "kid", CreatedAt: f.clock.now(), Version: 1,
	}
}

// order returns a pending order of an account. The account's name is its owner's, too.
func (f *fixture) order(id, account string) acmeserver.Order {
	name := acme.Identifier{Type: acme.TypeDNS, Value: id + ".example"}
	return acmeserver.Order{
		ID: id, AccountID: account, Owner: account, Status: acmeserver.StatusPending, Identifiers: []acme.Identifier{name},
		Authorizations: []acmeserver.Authorization{{
			Identifier: name, Status: acmeserver.StatusPending,
			Challenges: []acmeserver.Challenge{{Type: acme.HTTP01, Token: "token", Status: acmeserver.StatusPending}},
		}},
		CreatedAt: f.clock.now(), Expires: f.clock.now().Add(24 * time.Hour), Version: 1,
	}
}

// shared returns an order of a Share that is processing.
func (f *fixture) shared(id, account, share string) acmeserver.Order {
	o := f.order(id, account)
	o.Status, o.Share, o.KeyHash = acmeserver.StatusProcessing, share, "key"
	return o
}

// dueOrder returns an order that is due after a time.
func (f *fixture) dueOrder(id, account string, after time.Duration) acmeserver.Order {
	o := f.order(id, account)
	o.DueAt = f.clock.now().Add(after)
	return o
}

// create stores an order.
func (f *fixture) create(t *testing.T, o acmeserver.Order) acmeserver.Order {
	t.Helper()
	ok(t, f.CreateOrder(t.Context(), o, 0))
	return o
}

// update changes an order and returns it as it is stored then.
func (f *fixture) update(t *testing.T, id string, change func(*acmeserver.Order)) acmeserver.Order {
	t.Helper()
	o := must(f.Order(t.Context(), id))(t)
	change(&o)
	ok(t, f.UpdateOrder(t.Context(), o))
	return must(f.Order(t.Context(), id))(t)
}

// complete stores a certificate for an order, which it makes valid.
func (f *fixture) complete(t *testing.T, orderID string, c acmeserver.Certificate) acmeserver.Certificate {
	t.Helper()
	o := must(f.Order(t.Context(), orderID))(t)
	o.Status, o.CertificateID, o.Issuing, o.DueAt = acmeserver.StatusValid, c.ID, false, time.Time{}
	o.LeaseOwner, o.LeaseUntil = "", time.Time{}
	c.OrderID, c.AccountID, c.Owner = o.ID, o.AccountID, o.Owner
	ok(t, f.CompleteOrder(t.Context(), o, c))
	return c
}

// certificate returns a certificate with every field set that is set at first.
func (f *fixture) certificate(id string) acmeserver.Certificate {
	return acmeserver.Certificate{
		ID: id, OrderID: "o", AccountID: "a", Owner: "a", Chains: [][]byte{[]byte("chain of " + id), {}, {0, 0xff, '\n'}},
		Fingerprint: "fingerprint of " + id, KeyHash: "key", ARIID: "ari.of-" + id, Identifiers: []string{"a.example", "*.b.example"},
		NotBefore: f.clock.now().Add(-time.Hour), NotAfter: f.clock.now().Add(90 * 24 * time.Hour), State: []byte("state"), CreatedAt: f.clock.now(),
	}
}

// issue creates an order and completes it with a certificate.
func (f *fixture) issue(t *testing.T, o acmeserver.Order, c acmeserver.Certificate) acmeserver.Certificate {
	t.Helper()
	f.create(t, o)
	return f.complete(t, o.ID, c)
}

func (f *fixture) claim(t *testing.T, owner string, limit int) []acmeserver.Order {
	t.Helper()
	return must(f.ClaimOrders(t.Context(), owner, f.clock.now(), f.clock.now().Add(time.Minute), limit))(t)
}

func ids(orders []acmeserver.Order) (all []string) {
	for _, o := range orders {
		all = append(all, o.ID)
	}
	return all
}

const workers = 8

// each runs fn concurrently, once for each worker, and waits.
func each(fn func(i int)) {
	var wg sync.WaitGroup
	for i := range workers {
		wg.Go(func() { fn(i) })
	}
	wg.Wait()
}

func numbered(prefix string, i int) string { return fmt.Sprintf("%s%03d", prefix, i) }
