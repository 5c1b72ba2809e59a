// Package storetest tests the contract of package store: [Run] and [Reopen] must pass on
// every database. It must use only the store's methods, so that it tests only what holds
// for all databases.
//
//	func TestContract(t *testing.T) {
//		storetest.Run(t, func(t *testing.T, now func() time.Time) *store.Store {
//			s, err := store.Open(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "a.db"), Now: now})
//			…
//			return s
//		})
//	}
package storetest

import (
	"context"
	"crypto/sha256"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/store"
)

// Clock is a clock that stands still until it is advanced. It may be used
// concurrently.
type Clock struct {
	mu sync.Mutex
	t  time.Time // guarded by mu
}

// NewClock returns a clock that shows a whole millisecond, the store's precision.
func NewClock() *Clock {
	return &Clock{t: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
}

// Now returns the clock's time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

// Advance moves the clock forward.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// fixture is an empty store with its clock.
type fixture struct {
	*store.Store
	clock *Clock
}

// Run tests the whole contract. open must return an empty store with the clock now, and
// close it when the test ends. It is called concurrently.
func Run(t *testing.T, open func(t *testing.T, now func() time.Time) *store.Store) {
	for _, group := range []struct {
		name  string
		cases []testCase
	}{
		{"accounts", accountCases},
		{"clients", clientCases},
		{"credentials", credentialCases},
		{"recipients", recipientCases},
		{"rollover", rolloverCases},
		{"managed", managedCases},
		{"register", registerCases},
		{"find", findCases},
		{"leases", leaseCases},
		{"hooks", hookCases},
		{"delays", delayCases},
		{"tries", triesCases},
		{"audit", auditCases},
		{"limits", limitCases},
		{"apply", applyCases},
		{"concurrency", concurrencyCases},
	} {
		t.Run(group.name, func(t *testing.T) {
			for _, c := range group.cases {
				t.Run(c.name, func(t *testing.T) {
					t.Parallel() // each has a store of its own
					clock := NewClock()
					c.test(t, &fixture{open(t, clock.Now), clock})
				})
			}
		})
	}
}

type testCase struct {
	name string
	test func(t *testing.T, f *fixture)
}

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

// wantErr fails the test unless err wraps want, as an answer and not as a fault of
// the database, which callers would retry.
func wantErr(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error is %v, want %v", err, want)
	}
	if managed.IsFault(err) {
		t.Fatalf("error is a fault of the database: %v", err)
	}
}

func equal[T any](t *testing.T, got, want T) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Fatalf("-want +got:\n%s", d)
	}
}

func hash(s string) []byte {
	sum := sha256.Sum256([]byte(s))
	return sum[:]
}

// client creates a client without any credential.
func (f *fixture) client(t *testing.T, name string) clients.Client {
	t.Helper()
	return must(f.CreateClient(t.Context(), clients.Client{Name: name}))(t)
}

// manage creates the proxy's own managed certificate for names.
func (f *fixture) manage(t *testing.T, names ...string) managed.Certificate {
	t.Helper()
	m, created, err := f.EnsureManaged(t.Context(), managed.Certificate{Mode: "acme-client", Names: names, KeyType: "ec256"})
	ok(t, err)
	if !created {
		t.Fatalf("%v was there already", names)
	}
	return m
}

// claim takes all that is due.
func (f *fixture) claim(t *testing.T, owner string) []managed.Certificate {
	t.Helper()
	return must(f.ClaimDue(t.Context(), owner, time.Minute, 0))(t)
}

// claimOne takes the only row that is due.
func (f *fixture) claimOne(t *testing.T, owner string) managed.Certificate {
	t.Helper()
	rows := f.claim(t, owner)
	if len(rows) != 1 {
		t.Fatalf("claimed %d rows, want 1", len(rows))
	}
	return rows[0]
}

// bundle returns a bundle for a row; tag tells it from others.
func (f *fixture) bundle(managedID, tag string) managed.Bundle {
	return managed.Bundle{
		ManagedID: managedID, ETag: tag, Ciphertext: []byte("sealed " + tag), Serial: "serial-" + tag,
		NotBefore: f.clock.Now(), NotAfter: f.clock.Now().Add(90 * 24 * time.Hour),
		CA: directory, CertificateURL: "https://ca.example/cert/" + tag, ARIID: "aki." + tag,
	}
}

// complete claims the row, which must be due, and stores a bundle for it.
func (f *fixture) complete(t *testing.T, managedID, tag string, hook bool) {
	t.Helper()
	ctx := t.Context()
	ok(t, f.SetDue(ctx, managedID, f.clock.Now()))
	f.claimOne(t, "completer")
	ok(t, f.CompleteManaged(ctx, "completer", f.bundle(managedID, tag), f.clock.Now().Add(60*24*time.Hour), hook))
}

// each runs fn concurrently, once for each worker, and waits.
func each(fn func(i int)) {
	var wg sync.WaitGroup
	for i := range workers {
		wg.Go(func() { fn(i) })
	}
	wg.Wait()
}

// lookup reads one kind of row by the id of a managed certificate.
type lookup struct {
	name string
	run  func(ctx context.Context, id string) error
}

// lookups reads all that a managed certificate owns.
func (f *fixture) lookups() []lookup {
	return []lookup{
		{"managed", func(ctx context.Context, id string) error { _, err := f.ManagedByID(ctx, id); return err }},
		{"bundle", func(ctx context.Context, id string) error { _, err := f.BundleFor(ctx, id); return err }},
		{"order", func(ctx context.Context, id string) error { _, err := f.OrderFor(ctx, id); return err }},
		{"hook", func(ctx context.Context, id string) error { _, err := f.PendingHookFor(ctx, id); return err }},
	}
}
