package sqlstore

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/acmeproxy/acmeproxy/internal/pgtest"
	"github.com/acmeproxy/acmeproxy/pkg/store/sqldb"
)

// plan is a statement with the index that it must use.
type plan struct {
	query      string
	index      string // with SQLite
	onPostgres string // if it has another name there
	args       []any  // for PostgreSQL, which needs their types
}

// plans has every statement that looks for rows.
func plans(skipLocked string) map[string]plan {
	locked := func(query string) string { return fmt.Sprintf(query, skipLocked) }
	auto := func(table string, n int) string { return fmt.Sprintf("sqlite_autoindex_acme_%s_%d", table, n) }
	return map[string]plan{
		"secret":             {secretSQL, auto("secrets", 1), "acme_secrets_pkey", []any{"s"}},
		"purge nonces":       {locked(purgeNoncesSQL), auto("nonces", 1), "acme_nonces_pkey", []any{500, 10}},
		"account":            {accountByIDSQL, auto("accounts", 1), "acme_accounts_pkey", []any{"i"}},
		"account by key":     {accountByKeySQL, auto("accounts", 2), "acme_accounts_thumbprint_key", []any{"t"}},
		"accounts":           {accountsSQL, "acme_accounts_owner", "", []any{"o1", 5}},
		"order":              {orderSQL, auto("orders", 1), "acme_orders_pkey", []any{"i"}},
		"stored order":       {storedSQL, auto("orders", 1), "acme_orders_pkey", []any{"i"}},
		"open orders":        {openOrdersSQL, "acme_orders_open", "", []any{"o1", 5, 5}},
		"time of an order":   {orderTimeSQL, auto("orders", 1), "acme_orders_pkey", []any{"i", "a"}},
		"list orders":        {listOrdersSQL, "acme_orders_account", "", []any{"a1", 500, "i", 5}},
		"issuing":            {issuingSQL, "acme_orders_issuing", "", []any{"s1"}},
		"others":             {othersSQL, "acme_orders_waiting", "", []any{"s1", 5}},
		"call next":          {callNextSQL, "acme_orders_waiting", "", []any{"s1", "i"}},
		"replace":            {replaceSQL, "acme_certificates_ari", "", []any{"r1", "a", "i", 5}},
		"update order":       {updateOrderSQL, auto("orders", 1), "acme_orders_pkey", []any{"i", 1, "", "", "", "", 0, 0, "", 0, []byte{}, "", "", "", false, []byte{}, 0, 0, "w", 5, "", false, "", 0}},
		"update account":     {updateAccountSQL, auto("accounts", 1), "acme_accounts_pkey", []any{"i", 1, "", []byte{}, "", "", "", "", []byte{}, ""}},
		"replaced":           {replacedSQL, "acme_certificates_ari", "", []any{"r1", "a"}},
		"give up":            {giveUpSQL, "acme_certificates_ari", "", []any{"r1", "a", "i"}},
		"unauthorize":        {unauthorizeSQL, auto("authorized", 1), "acme_authorized_pkey", []any{"a", "n", 5, "i"}},
		"authorized":         {authorizedSQL, auto("authorized", 1), "acme_authorized_pkey", []any{"a", "n", 5}},
		"due":                {duePageSQL, "acme_orders_due", "", []any{500, 5}},
		"due of each owner":  {dueOfOwnersSQL, "acme_orders_owner_due", "", []any{500, 5}},
		"leased":             {leasedSQL, "acme_orders_leased", "", []any{1990}},
		"claim":              {fmt.Sprintf(claimSQL, "$4", skipLocked), auto("orders", 1), "acme_orders_pkey", []any{5, "w", 5, "i"}},
		"extend":             {extendSQL, auto("orders", 1), "acme_orders_pkey", []any{"i", "w", 5}},
		"free leases":        {freeLeasesSQL, "acme_orders_leased", "", nil},
		"next due":           {nextDueSQL, "acme_orders_due", "", []any{5}},
		"next lease end":     {nextLeaseEndSQL, "acme_orders_leased", "", []any{1990}},
		"certificate":        {certificateSQL, auto("certificates", 1), "acme_certificates_pkey", []any{"i"}},
		"by fingerprint":     {fingerprintSQL, "acme_certificates_fingerprint", "", []any{"f"}},
		"by ARI id":          {byARISQL, "acme_certificates_ari", "", []any{"r1"}},
		"uncollected":        {uncollectedSQL, "acme_certificates_share", "", []any{"s1", "k", 5, 5, 5}},
		"fingerprint":        {fingerprintOfSQL, auto("certificates", 1), "acme_certificates_pkey", []any{"i"}},
		"collect":            {collectSQL, "acme_certificates_fingerprint", "", []any{"f"}},
		"revoke":             {revokeSQL, "acme_certificates_fingerprint", "", []any{"f", 5, 1}},
		"has record":         {hasRecordSQL, "acme_certificates_fingerprint", "", []any{"f"}},
		"old orders":         {locked(oldOrdersSQL), "acme_orders_expiry", "", []any{5, 5}},
		"created ahead":      {createdAheadSQL, "acme_orders_expiry", "", []any{1990, 5}},
		"leased ahead":       {leasedAheadSQL, "acme_orders_leased", "", []any{1990, 5}},
		"due ahead":          {dueAheadSQL, "acme_orders_due", "", []any{1990, 5}},
		"lock order":         {locked(lockOrderSQL), auto("orders", 1), "acme_orders_pkey", []any{"i"}},
		"correct order":      {correctOrderSQL, auto("orders", 1), "acme_orders_pkey", []any{"i", 5, "w", 5}},
		"delete order":       {deleteOrderSQL, auto("orders", 1), "acme_orders_pkey", []any{"i"}},
		"purge accounts":     {locked(purgeAccountsSQL), "acme_accounts_deactivated", "", []any{5, 5}},
		"purge certificates": {locked(purgeCertificatesSQL), "acme_certificates_expiry", "", []any{5, 5}},
	}
}

// No statement may read every row of a table or sort what it found: the cost must not
// grow with the number of old records.
func TestQueryPlans(t *testing.T) {
	db := openPart(t, sqldb.Config{Path: filepath.Join(t.TempDir(), "acmed.db")})
	for name, p := range plans("") {
		t.Run(name, func(t *testing.T) {
			text := strings.Join(explain(t, db, "EXPLAIN QUERY PLAN ", p), "\n")
			if !regexp.MustCompile(`INDEX ` + p.index + `\b`).MatchString(text) {
				t.Errorf("does not use %s", p.index)
			}
			for line := range strings.Lines(text) {
				step := strings.TrimSpace(line)
				scans := strings.HasPrefix(step, "SCAN ") && !strings.Contains(step, "INDEX") &&
					step != "SCAN due" && step != "SCAN old" && step != "SCAN w" && step != "SCAN d" && step != "SCAN first" &&
					step != "SCAN found" && step != "SCAN last" // the page that was selected, which is short
				if scans || strings.Contains(step, "TEMP B-TREE") {
					t.Errorf("reads more than it needs: %s", step)
				}
			}
			if t.Failed() {
				t.Log(text)
			}
		})
	}
}

// PostgreSQL has an index for each of them, too. Tables are small here, so it must be told
// to prefer indexes.
func TestPostgresQueryPlans(t *testing.T) {
	db := openPart(t, sqldb.Config{URL: pgtest.Start(t).Database(t)})
	const rows = ` FROM generate_series(1, 2000) AS n`
	for _, statement := range []string{
		`INSERT INTO acme_secrets SELECT 's' || n, ''` + rows,
		`INSERT INTO acme_nonces SELECT n, 'n' || n` + rows,
		`INSERT INTO acme_accounts SELECT 'i' || n, 't' || n, '', 'valid', '', '', 'o' || n % 40, '', '', n, 1` + rows,
		`INSERT INTO acme_orders SELECT 'i' || n, 'a' || n % 40, 'o' || n % 40, CASE WHEN n % 20 = 0 THEN 'processing' ELSE 'valid' END, '', '', '', '', 0, 0, '', '', n, n, '', '', 's' || n, '',
			n % 2 = 0, '', n, 0, 'w', n, 1, '', n % 40 = 1, '', 0` + rows,
		`INSERT INTO acme_authorized SELECT 'a' || n % 40, 'n' || n, n, 'i' || n` + rows,
		`INSERT INTO acme_certificates SELECT 'i' || n, 'i' || n, 'a' || n % 40, 'o' || n % 40, 's' || n % 40, '', 'f' || n, 'k' || n % 3, 'r' || n % 40, '',
			0, n, '', FALSE, '', 0, 0, n` + rows,
		`ANALYZE`,
	} {
		if _, err := db.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	for name, p := range plans(db.SkipLocked()) {
		t.Run(name, func(t *testing.T) {
			index := p.onPostgres
			if index == "" {
				index = p.index
			}
			text := strings.Join(explain(t, db, "EXPLAIN ", p), "\n")
			if !strings.Contains(text, "using "+index+" on") {
				t.Errorf("does not use %s", index)
			}
			if strings.Contains(text, "Seq Scan") || strings.Contains(text, "Sort") {
				t.Error("reads more than it needs")
			}
			if t.Failed() {
				t.Log(text)
			}
		})
	}
}

// explain returns the steps of a plan.
func explain(t *testing.T, db *sqldb.DB, how string, p plan) (steps []string) {
	t.Helper()
	err := db.Tx(t.Context(), func(tx *sql.Tx) error {
		if db.SkipLocked() != "" { // PostgreSQL
			for _, setting := range []string{"enable_seqscan", "enable_bitmapscan"} {
				if _, err := tx.ExecContext(t.Context(), "SET LOCAL "+setting+" = off"); err != nil {
					return err
				}
			}
		}
		rows, err := tx.QueryContext(t.Context(), how+p.query, p.args...)
		steps, err = sqldb.Collect(rows, err, func(r sqldb.Scanner) (step string, err error) {
			if db.SkipLocked() != "" {
				return step, r.Scan(&step)
			}
			var id, parent, unused int
			err = r.Scan(&id, &parent, &unused, &step)
			return step, err
		})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return steps
}

func openPart(t *testing.T, at sqldb.Config) *sqldb.DB {
	t.Helper()
	at.Parts = []sqldb.Part{Part()}
	db, err := sqldb.Open(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}
