//go:build unix

package sqlstore_test

import (
	"bytes"
	"fmt"
	"path/filepath"
	"slices"
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
	for name, db := range databases(b) {
		s := sqlstore.New(db)
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

// databases are both, empty, and both bring a commit to the disk before they acknowledge
// it.
func databases(b *testing.B) map[string]*sqldb.DB {
	b.Helper()
	found := map[string]*sqldb.DB{}
	for name, at := range map[string]sqldb.Config{
		"SQLite":     {Path: filepath.Join(b.TempDir(), "acmed.db")},
		"PostgreSQL": {URL: pgtest.Start(b, "fsync=on", "full_page_writes=on").Database(b)},
	} {
		db := open(b, at)
		b.Cleanup(func() { closing(b, db) })
		found[name] = db
	}
	return found
}

// BenchmarkOldRecords has a database with ten accounts and certificates, and one with
// 100,000 accounts and a million certificates with their orders. They take turns.
//
// Budget: 1.3 times as long with a million.
func BenchmarkOldRecords(b *testing.B) {
	ten, million := databases(b), databases(b)
	for name := range ten {
		b.Run(name, func(b *testing.B) {
			fill(b, ten[name], 1, 10)
			fill(b, million[name], 1, 1_000_000)
			var took, used [2][]time.Duration
			for n := 0; b.Loop(); n++ {
				for i, db := range []*sqldb.DB{ten[name], million[name]} {
					start, before := time.Now(), cpu(b)
					oneOrder(b, sqlstore.New(db), fmt.Sprintf("%d-%d", n*7919%1000, n), start)
					took[i], used[i] = append(took[i], time.Since(start)), append(used[i], cpu(b)-before)
				}
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(medianMS(took[0]), "ten-ms")
			b.ReportMetric(medianMS(took[1]), "million-ms")
			b.ReportMetric(medianMS(took[1])/medianMS(took[0]), "million/ten")
			b.ReportMetric(medianMS(used[0]), "ten-cpu-ms")
			b.ReportMetric(medianMS(used[1]), "million-cpu-ms")
		})
	}
}

func medianMS(took []time.Duration) float64 {
	slices.Sort(took)
	return float64(took[len(took)/2].Microseconds()) / 1000
}

// fill adds certificates with finished orders and a tenth as many accounts, in statements
// that end within the time that one may take.
func fill(b *testing.B, db *sqldb.DB, first, last int) {
	b.Helper()
	const batch = 50_000
	const numbers = `WITH RECURSIVE n(i) AS (SELECT CAST($1 AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i < CAST($2 AS BIGINT)) `
	// A random order of the texts that are hashes.
	const hash = `CAST((i * 7919) % 1000003 AS TEXT)`
	for ; first <= last; first += batch {
		for _, statement := range []string{
			`INSERT INTO acme_accounts SELECT 'old' || i, 't' || ` + hash + `, '', 'valid', '', '', 'w' || i % 1000, '', '', i, 1 FROM n WHERE i % 10 = 0`,
			`INSERT INTO acme_orders SELECT 'old' || i, 'a' || i % 1000, 'w' || i % 1000, 'valid', '', '', '', '', 0, 0, '', '', i, 4102444800000 + i, '', 'old' || i,
				's' || ` + hash + `, 'k' || i, FALSE, '', 0, 0, '', 0, 4, '', FALSE, '', 0 FROM n`,
			`INSERT INTO acme_authorized SELECT 'a' || i % 1000, ` + hash + ` || '.example.com', 4102444800000 + i, 'old' || i FROM n`,
			`INSERT INTO acme_certificates SELECT 'old' || i, 'old' || i, 'a' || i % 1000, 'w' || i % 1000, 's' || ` + hash + `, '', 'f' || ` + hash + `, 'k' || i,
				'r' || ` + hash + `, '', 0, 4102444800000 + i, '', TRUE, '', 0, 0, i FROM n`,
		} {
			if _, err := db.Exec(b.Context(), numbers+statement, first, min(first+batch-1, last)); err != nil {
				b.Fatal(err)
			}
		}
	}
	if _, err := db.Exec(b.Context(), `ANALYZE`); err != nil {
		b.Fatal(err)
	}
}
