//go:build unix

package sqlstore_test

import (
	"bytes"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/acmeproxy/acmeproxy/internal/pgtest"
	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver/sqlstore"
	"github.com/acmeproxy/acmeproxy/pkg/store/sqldb"
)

// oneOrder is all that the storage does for a certificate of two names whose challenges
// were validated: a nonce for each of six requests, newOrder, the validation, finalize,
// and the outcome.
func oneOrder(b testing.TB, s acmeserver.Storage, id string, now time.Time) {
	b.Helper()
	ctx := b.Context()
	check := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	nonce := func(n int) {
		check(s.UseNonce(ctx, fmt.Sprintf("%s-%d", id, n), now.Add(time.Hour).Truncate(time.Second)))
	}
	o := acmeserver.Order{
		ID: id, AccountID: "account", Owner: "owner", Status: acmeserver.StatusPending, CreatedAt: now, Expires: now.Add(24 * time.Hour),
		Share: "web1 " + id, Version: 1,
	}
	for _, name := range []string{"a." + id + ".example.com", "b." + id + ".example.com"} {
		identifier := acme.Identifier{Type: acme.TypeDNS, Value: name}
		o.Identifiers = append(o.Identifiers, identifier)
		o.Authorizations = append(o.Authorizations, acmeserver.Authorization{
			Identifier: identifier, Status: acmeserver.StatusPending, Challenges: []acmeserver.Challenge{
				{Type: acme.HTTP01, Token: "oFvnlFP1wIhRlYS2jTaXbAoFvnlFP1wIhRlYS2jTaXb", Status: acmeserver.StatusPending},
				{Type: acme.DNS01, Token: "oFvnlFP1wIhRlYS2jTaXbAoFvnlFP1wIhRlYS2jTaXb", Status: acmeserver.StatusPending},
			},
		})
	}
	nonce(1)
	check(s.CreateOrder(ctx, o, 300))
	nonce(2)
	for i := range o.Authorizations {
		o.Authorizations[i].Status, o.Authorizations[i].Challenges[0].Status = acmeserver.StatusValid, acmeserver.StatusValid
	}
	o.Status = acmeserver.StatusReady
	check(s.UpdateOrder(ctx, o))
	nonce(3)
	o.Version++
	o.Status, o.CSR, o.KeyHash, o.Issuing, o.DueAt, o.LeaseOwner, o.LeaseUntil = acmeserver.StatusProcessing, bytes.Repeat([]byte("csr "), 100), "key "+id,
		true, now, "instance", now.Add(time.Minute)
	check(s.UpdateOrder(ctx, o))
	nonce(4)
	o.Version++
	o.Status, o.Issuing, o.DueAt, o.LeaseOwner, o.LeaseUntil, o.CertificateID = acmeserver.StatusValid, false, time.Time{}, "", time.Time{}, id
	check(s.CompleteOrder(ctx, o, acmeserver.Certificate{
		ID: id, OrderID: id, AccountID: "account", Owner: "owner", Chains: [][]byte{bytes.Repeat([]byte("chain\n"), 500)},
		Fingerprint: "fingerprint " + id, KeyHash: "key " + id, ARIID: "ari." + id, Identifiers: []string{o.Identifiers[0].Value, o.Identifiers[1].Value},
		NotBefore: now, NotAfter: now.Add(90 * 24 * time.Hour), CreatedAt: now,
	}))
	nonce(5)
	nonce(6)
}

// cpu returns the time that this process has used so far.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkOrder does all that the storage does for one certificate, one at a time and
// 32 at a time.
//
// Budget: 3 ms of CPU on SQLite.
func BenchmarkOrder(b *testing.B) {
	for name, s := range storages(b) {
		for _, parallel := range []int{1, 32} {
			b.Run(fmt.Sprintf("%s/%d", name, parallel), func(b *testing.B) {
				var all errgroup.Group
				all.SetLimit(parallel)
				var n atomic.Int64
				start, used := time.Now(), cpu(b)
				for b.Loop() {
					all.Go(func() error {
						oneOrder(b, s, fmt.Sprintf("%d-%d-%d", parallel, start.UnixNano(), n.Add(1)), time.Now())
						return nil
					})
				}
				_ = all.Wait() // never an error
				b.ReportMetric(0, "ns/op")
				b.ReportMetric(float64((cpu(b)-used).Microseconds())/1000/float64(b.N), "cpu-ms")
				b.ReportMetric(float64(b.N)/time.Since(start).Seconds(), "orders/s")
			})
		}
	}
}

// storages are empty ones on both databases, which bring a commit to the disk before
// they acknowledge it.
func storages(b *testing.B) map[string]*sqlstore.Store {
	b.Helper()
	found := map[string]*sqlstore.Store{}
	for name, at := range map[string]sqldb.Config{
		"SQLite":     {Path: filepath.Join(b.TempDir(), "acmed.db")},
		"PostgreSQL": {URL: pgtest.Start(b, "fsync=on", "full_page_writes=on").Database(b)},
	} {
		db := open(b, at)
		b.Cleanup(func() { closing(b, db) })
		found[name] = sqlstore.New(db)
	}
	return found
}
