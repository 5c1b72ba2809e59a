package store

import (
	"database/sql"
	"fmt"
	"strings"
	"testing"

	"github.com/acmeproxy/acmeproxy/internal/pgtest"
	"github.com/acmeproxy/acmeproxy/pkg/store/sqldb"
	"github.com/acmeproxy/acmeproxy/pkg/trail"
)

// PostgreSQL has an index for each query of a tick or a list, as SQLite has
// (TestQueryPlans). Tables are small here, so it must be told to prefer indexes.
func TestPostgresQueryPlans(t *testing.T) {
	server := pgtest.Start(t)
	s, err := Open(t.Context(), Config{URL: server.Database(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close() // only read from
	for _, statement := range []string{
		`INSERT INTO managed SELECT 'i' || n, 'c', 'm', 'n', 'h' || n, '', '', '', n, '', 0, 0, '', 0, '', '', 0, 0, 0, 0 FROM generate_series(1, 2000) AS n`,
		`INSERT INTO audit SELECT n, 0, '', 'c' || n % 40, '', '', '', '', 'o' || n % 33, '' FROM generate_series(1, 2000) AS n`,
		`INSERT INTO clients SELECT 'i' || n, 'n' || n, FALSE, '', 0 FROM generate_series(1, 2000) AS n`,
		`INSERT INTO pauses SELECT 'c', 'h' || n, 0, 0, 0, '', 0, 0, n FROM generate_series(1, 2000) AS n`,
		`ANALYZE`,
	} {
		if _, err := s.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	audit := func(q trail.Query) string { text, _ := auditSQL(q); return text }
	for name, tc := range map[string]struct {
		query, index string
		args         []any
	}{
		"due":                 {duePageSQL, "managed_due", []any{1, 1}},
		"due of each client":  {dueOfClientsSQL, "managed_client_due", []any{1, 1}},
		"claim":               {fmt.Sprintf(claimSQL, "$4", s.SkipLocked()), "managed_pkey", []any{1, "w", 1, "i"}},
		"next due":            {nextDueSQL, "managed_due", []any{1}},
		"next lease end":      {nextLeaseEndSQL, "managed_lease", []any{1}},
		"claim hooks":         {fmt.Sprintf(claimHooksSQL, s.SkipLocked()), "hooks_pending_due", []any{1, 1, "w", 1}},
		"next hook":           {nextHookSQL, "hooks_pending_due", []any{1}},
		"next hook lease end": {nextHookLeaseEndSQL, "hooks_pending_lease", []any{1}},
		"delayed":             {delayedSQL, "managed_failed_with", []any{"ca", 1, 1}},
		"end delays":          {endDelaysSQL, "managed_failed_with", []any{"ca", 1, 1}},
		"failing":             {failingSQL, "managed_failing", []any{"i", 1}},
		"later hooks":         {laterHooksSQL, "hooks_pending_due", []any{1}},
		"try hooks":           {tryHooksSQL, "hooks_pending_due", []any{1}},
		"parked":              {parkedSQL, "managed_parked", []any{1 << 40, 1}},
		"parked hooks":        {parkedHooksSQL, "hooks_pending_due", []any{1 << 40, 1}},
		"far leases":          {farLeasesSQL, "managed_lease", []any{1 << 40, 1}},
		"far leases of hooks": {farHooksSQL, "hooks_pending_lease", []any{1 << 40, 1}},
		"managed by id":       {managedByIDSQL, "managed_pkey", []any{"i"}},
		"managed by names":    {managedByNamesSQL, "managed_client_id_mode_names_hash_key", []any{"c", "m", "h"}},
		"list managed":        {listManagedSQL, "managed_client", []any{"c", "i", "m", 1}},
		"list clients":        {clientsPageSQL, "clients_name_key", []any{"n", 1}},
		"client by name":      {clientByNameSQL, "clients_name_key", []any{"n1"}},
		"credential":          {credentialSQL, "credentials_kind_verifier_key", []any{"k", []byte("v"), 1}},
		"credentials":         {credentialsSQL, "credentials_client", []any{"c"}},
		"audit":               {audit(trail.Query{}), "audit_pkey", []any{1 << 40, 100}},
		"audit by client":     {audit(trail.Query{Client: "c"}), "audit_client", []any{1 << 40, 100, "c1"}},
		"audit by outcome":    {audit(trail.Query{Outcome: "o"}), "audit_outcome", []any{1 << 40, 100, "o1"}},
		"audit by both":       {audit(trail.Query{Client: "c", Outcome: "o"}), "audit_client_outcome", []any{1 << 40, 100, "c1", "o1"}},
		"prune audit":         {pruneAuditSQL, "audit_share", []any{"", 1, 1}},
		"purge pauses":        {purgePausesSQL, "pauses_expiry", []any{1, 1}},
		"pause":               {pauseSQL, "pauses_pkey", []any{"c", "h1"}},
		"room":                {roomSQL, "managed_client", []any{"c", 1}},
	} {
		t.Run(name, func(t *testing.T) {
			var steps []string
			err := s.Tx(t.Context(), func(tx *sql.Tx) error {
				for _, setting := range []string{"enable_seqscan", "enable_bitmapscan"} {
					if _, err := tx.ExecContext(t.Context(), "SET LOCAL "+setting+" = off"); err != nil {
						return err
					}
				}
				rows, err := tx.QueryContext(t.Context(), "EXPLAIN "+tc.query, tc.args...)
				steps, err = sqldb.Collect(rows, err, func(r sqldb.Scanner) (step string, err error) { return step, r.Scan(&step) })
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			plan := strings.Join(steps, "\n")
			if !strings.Contains(plan, "using "+tc.index+" on") {
				t.Errorf("does not use %s", tc.index)
			}
			// A page of clients is sorted with their grants once it was selected.
			if strings.Contains(plan, "Seq Scan") || strings.Contains(plan, "Sort") && !strings.Contains(tc.query, "grants") {
				t.Error("reads more than it needs")
			}
			if t.Failed() {
				t.Log(plan)
			}
		})
	}
}
