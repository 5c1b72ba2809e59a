package store

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/acmeproxy/acmeproxy/internal/pgtest"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/store/sqldb"
	"github.com/acmeproxy/acmeproxy/pkg/trail"
)

// databases are both, empty, and both bring a commit to the disk before they
// say that it is done.
func databases(b *testing.B) map[string]*Store {
	b.Helper()
	found := map[string]*Store{}
	for name, cfg := range map[string]Config{
		"sqlite":   {Path: filepath.Join(b.TempDir(), "acmeproxy.db")},
		"postgres": {URL: pgtest.Start(b, "fsync=on", "full_page_writes=on").Database(b)},
	} {
		s, err := Open(b.Context(), cfg)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { s.Close() })
		found[name] = s
	}
	return found
}

// fill adds certificates that are due tomorrow, numbered from first to last, in
// statements that end within the time that one may take.
func fill(b *testing.B, s *Store, first, last int) {
	b.Helper()
	const batch = 50_000
	for ; first <= last; first += batch {
		insert(b, s, first, min(first+batch-1, last))
	}
	if _, err := s.Exec(b.Context(), `ANALYZE`); err != nil {
		b.Fatal(err)
	}
}

func insert(b *testing.B, s *Store, first, last int) {
	b.Helper()
	if _, err := s.Exec(b.Context(), `WITH RECURSIVE n(i) AS (SELECT CAST($1 AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i < CAST($2 AS BIGINT))
		INSERT INTO managed (id, client_id, mode, names, names_hash, key_type, profile, csr, due_at, lease_owner, lease_until,
			failures, last_error, last_error_at, etag, serial, not_before, not_after, created_at, updated_at)
		SELECT 'id' || i, 'c' || i % 1000, 'agent', 'n' || i || '.example.com', 'h' || i, 'ec256', '', '', CAST($3 AS BIGINT) + i, '', 0,
			0, '', 0, '', '', 0, 0, 0, 0 FROM n`, first, last, sqldb.Millis(time.Now().Add(24*time.Hour))); err != nil {
		b.Fatal(err)
	}
}

// tick is what a renewal loop asks when nothing is due.
func tick(b *testing.B, s *Store) time.Duration {
	b.Helper()
	start := time.Now()
	claimed, err := s.ClaimDue(b.Context(), "bench", time.Minute, 100)
	if err == nil && len(claimed) != 0 {
		b.Fatalf("%d rows are due", len(claimed))
	}
	if err == nil {
		_, err = s.NextDue(b.Context())
	}
	if err != nil {
		b.Fatal(err)
	}
	return time.Since(start)
}

// BenchmarkTick has a thousand certificates under management, then a million.
//
// Budget: < 5 ms with a million.
func BenchmarkTick(b *testing.B) {
	for name, s := range databases(b) {
		b.Run(name, func(b *testing.B) {
			const few, many = 1000, 1_000_000
			fill(b, s, 1, few)
			var small, large []time.Duration
			for range 100 {
				small = append(small, tick(b, s))
			}
			fill(b, s, few+1, many)
			for b.Loop() {
				large = append(large, tick(b, s))
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(medianMS(small), "thousand-ms")
			b.ReportMetric(medianMS(large), "million-ms")
			b.ReportMetric(medianMS(large)/medianMS(small), "million/thousand")
		})
	}
}

// BenchmarkGrouped has 32 callers that write one entry of the audit trail after the
// other on SQLite, each in a transaction of its own and then in one that those who
// wait share. One caller alone must not lose by it.
func BenchmarkGrouped(b *testing.B) {
	s, err := Open(b.Context(), Config{Path: filepath.Join(b.TempDir(), "acmeproxy.db")})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	entry := trail.Entry{Action: "bench", Outcome: trail.Allowed}
	alone := func() error {
		return s.Tx(b.Context(), func(tx *sql.Tx) error { return s.append(b.Context(), tx, entry) })
	}
	grouped := func() error { return s.AppendAudit(b.Context(), entry) }
	var of32Alone, of32Grouped, of1Alone, of1Grouped []time.Duration
	for b.Loop() {
		of32Alone = append(of32Alone, timeOfWrite(b, 32, alone))
		of32Grouped = append(of32Grouped, timeOfWrite(b, 32, grouped))
		of1Alone = append(of1Alone, timeOfWrite(b, 1, alone))
		of1Grouped = append(of1Grouped, timeOfWrite(b, 1, grouped))
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(medianMS(of32Alone), "alone-ms")
	b.ReportMetric(medianMS(of32Grouped), "grouped-ms")
	b.ReportMetric(medianMS(of32Alone)/medianMS(of32Grouped), "alone/grouped")
	b.ReportMetric(medianMS(of1Grouped)/medianMS(of1Alone), "grouped/alone-of-one")
}

// timeOfWrite returns the time of one write, when that many callers write at once.
func timeOfWrite(b *testing.B, callers int, write func() error) time.Duration {
	b.Helper()
	const each = 4
	var all errgroup.Group
	start := time.Now()
	for range callers {
		all.Go(func() error {
			for range each {
				if err := write(); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := all.Wait(); err != nil {
		b.Fatal(err)
	}
	return time.Since(start) / time.Duration(callers*each)
}

// BenchmarkCertificate is all that the store does for one certificate: it is
// registered, claimed, its order is journalled, its bundle stored. The databases
// take turns.
func BenchmarkCertificate(b *testing.B) {
	all := databases(b)
	took := map[string][]time.Duration{}
	client := map[string]string{}
	for name, s := range all {
		c, err := s.CreateClient(b.Context(), clients.Client{Name: "bench"})
		if err != nil {
			b.Fatal(err)
		}
		client[name] = c.ID
	}
	for i := 0; b.Loop(); i++ {
		for name, s := range all {
			start := time.Now()
			certificate(b, s, client[name], i)
			took[name] = append(took[name], time.Since(start))
		}
	}
	sqlite, postgres := medianMS(took["sqlite"]), medianMS(took["postgres"])
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(sqlite, "sqlite-ms")
	b.ReportMetric(postgres, "postgres-ms")
	b.ReportMetric(postgres/sqlite, "postgres/sqlite")
}

func medianMS(took []time.Duration) float64 {
	slices.Sort(took)
	return float64(took[len(took)/2].Microseconds()) / 1000
}

func certificate(b *testing.B, s *Store, clientID string, i int) {
	b.Helper()
	m, _, err := s.EnsureManaged(b.Context(), managed.Certificate{ClientID: clientID, Mode: "agent", Names: []string{fmt.Sprintf("n%d.example.com", i)}, KeyType: "ec256"})
	if err != nil {
		b.Fatal(err)
	}
	claimed, err := s.ClaimDue(b.Context(), "bench", time.Minute, 1)
	if err != nil || len(claimed) != 1 {
		b.Fatalf("%d rows, %v", len(claimed), err)
	}
	secret := make([]byte, 3000)
	if err := s.SaveOrder(b.Context(), "bench", managed.Order{ManagedID: m.ID, CA: "d", URL: "o", CSR: secret[:500], SealedKey: secret[:500]}); err != nil {
		b.Fatal(err)
	}
	now := time.Now()
	bundle := managed.Bundle{ManagedID: m.ID, ETag: fmt.Sprint(i), Ciphertext: secret, Serial: "1", NotBefore: now, NotAfter: now.Add(time.Hour)}
	if err := s.CompleteManaged(b.Context(), "bench", bundle, now.Add(time.Hour), false); err != nil {
		b.Fatal(err)
	}
}
