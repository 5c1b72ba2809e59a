package processbench

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// rows are the numbers of old rows in a database.
type rows struct{ accounts, certificates int }

// fillACME adds old rows, as a server has them after three months: each account is of an
// owner of its own, a tenth of the certificates is of the last week and so has its order,
// and the nonces are those of an hour. IDs begin with the time, so new ones come last. The
// chains are empty, but have the size of one with two certificates.
func fillACME(b *testing.B, dir string, r rows) {
	b.Helper()
	opened, err := openACME(b.Context(), dir) // with its tables
	if err != nil {
		b.Fatal(err)
	}
	if err := opened.Close(); err != nil {
		b.Fatal(err)
	}
	db, err := sql.Open("sqlite", filepath.Join(dir, "acme.db")+
		"?_pragma=journal_mode(OFF)&_pragma=synchronous(OFF)&_pragma=cache_size(-200000)&_pragma=temp_store(FILE)")
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	run := func(query string) {
		b.Helper()
		if _, err := db.ExecContext(b.Context(), query); err != nil {
			b.Fatalf("%s: %v", query, err)
		}
	}
	restore := dropIndexes(b, db, run)
	const (
		now = `(unixepoch() * 1000)`
		id  = `'05' || printf('%08d', n) || substr(lower(hex(randomblob(11))), 1, 22)`
	)
	account := fmt.Sprintf(`'05' || printf('%%030d', n %% %d)`, r.accounts)
	insert := func(table string, n int, values string) {
		b.Helper()
		run(fmt.Sprintf(`WITH RECURSIVE n(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n + 1 < %d) INSERT INTO %s SELECT %s FROM n`, n, table, values))
	}
	insert("acme_accounts", r.accounts, account+`, substr(hex(randomblob(22)), 1, 43),
		'{"crv":"P-256","kty":"EC","x":"' || substr(hex(randomblob(22)), 1, 43) || '","y":"' || substr(hex(randomblob(22)), 1, 43) || '"}',
		'valid', '[]', '', 'owner' || n, '', '', `+now+`, 1`)
	insert("acme_certificates", r.certificates, id+`, `+id+`, `+account+`, 'owner' || n, 'owner n' || n || '.example.com', zeroblob(1700),
		lower(hex(randomblob(32))), lower(hex(randomblob(32))), substr(hex(randomblob(28)), 1, 55), '["n' || n || '.example.com"]',
		`+now+` - 7776000000, `+now+` + n, '', TRUE, '', 0, 0, `+now+` - 7776000000 + n`)
	insert("acme_orders", r.certificates/10, id+`, `+account+`, 'owner' || n, 'valid', '[{"type":"dns","value":"n' || n || '.example.com"}]',
		'[{"identifier":{"type":"dns","value":"n' || n || '.example.com"},"status":"valid"}]', '[]', '', 0, 0, '', '', `+now+`, `+now+` + n,
		zeroblob(250), '', 'owner n' || n || '.example.com', lower(hex(randomblob(32))), FALSE, '', 0, 0, '', 0, 3, lower(hex(randomblob(32))), FALSE, '192.0.2.1', 0`)
	insert("acme_authorized", r.certificates/10, account+`, 'n' || n || '.example.com', `+now+` + n, `+id)
	insert("acme_nonces", r.certificates/10, now+` + 3600 * n, substr(hex(randomblob(11)), 1, 22)`)
	restore()
}

// dropIndexes drops the indexes. restore creates them again, which is faster than to
// insert rows into them.
func dropIndexes(b *testing.B, db *sql.DB, run func(query string)) (restore func()) {
	b.Helper()
	found, err := db.QueryContext(b.Context(), `SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL`)
	if err != nil {
		b.Fatal(err)
	}
	defer found.Close()
	var drop, create []string
	for found.Next() {
		var name, statement string
		if err := found.Scan(&name, &statement); err != nil {
			b.Fatal(err)
		}
		drop, create = append(drop, "DROP INDEX "+name), append(create, statement)
	}
	if err := found.Err(); err != nil {
		b.Fatal(err)
	}
	found.Close()
	run(strings.Join(drop, "; "))
	return func() {
		b.Helper()
		for _, statement := range create {
			run(statement)
		}
	}
}

// BenchmarkACMEServerWithManyRows compares a server with 100,000 accounts and 1,000,000
// old certificates to one with ten of each. They take turns.
//
// Budget: the time and the CPU of newOrder and finalize ≤ 1.3 times.
func BenchmarkACMEServerWithManyRows(b *testing.B) {
	var servers [2]*measuredACME
	for i, r := range []rows{{10, 10}, {100_000, 1_000_000}} {
		dir := b.TempDir()
		fillACME(b, dir, r)
		servers[i] = startACME(b, dir)
	}
	few, many := servers[0], servers[1]
	warm, task := acmeTask{Conns: 8, Certificates: 320}, acmeTask{Conns: 8, Certificates: 160}
	few.order(b, warm)
	many.order(b, warm)
	var times [2][]float64
	for b.Loop() {
		for i, m := range servers {
			m.turn(b, task)
			times[i] = append(times[i], ms(m.newOrder[len(m.newOrder)-1]+m.finalize[len(m.finalize)-1]))
		}
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(times[1]), "many-ms")
	b.ReportMetric(median(times[0]), "few-ms")
	b.ReportMetric(median(times[1])/median(times[0]), "many/few")
	b.ReportMetric(median(many.cost)/median(few.cost), "many/few-by-cpu")
	b.ReportMetric(many.server.resident(b), "many-MiB")
	b.ReportMetric(few.server.resident(b), "few-MiB")
}
