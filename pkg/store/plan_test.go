package store

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/store/sqldb"
	"github.com/acmeproxy/acmeproxy/pkg/trail"
)

// No query of a tick or a list may look at every row or sort what it found: the
// cost must not grow with the number of certificates under management.
func TestQueryPlans(t *testing.T) {
	s, err := Open(t.Context(), Config{Path: filepath.Join(t.TempDir(), "acmeproxy.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close() // only read from
	audit := func(q trail.Query) string { text, _ := auditSQL(q); return text }
	find := func(q managed.Query) string { text, _ := findSQL(q); return text }
	for name, tc := range map[string]struct{ query, index string }{
		"due":                 {duePageSQL, "managed_due"},
		"due of each client":  {dueOfClientsSQL, "managed_client_due"},
		"claim":               {fmt.Sprintf(claimSQL, "$4", s.SkipLocked()), "sqlite_autoindex_managed_1"},
		"next due":            {nextDueSQL, "managed_due"},
		"next lease end":      {nextLeaseEndSQL, "managed_lease"},
		"claim hooks":         {fmt.Sprintf(claimHooksSQL, s.SkipLocked()), "hooks_pending_due"},
		"next hook":           {nextHookSQL, "hooks_pending_due"},
		"next hook lease end": {nextHookLeaseEndSQL, "hooks_pending_lease"},
		"delayed":             {delayedSQL, "managed_failed_with"},
		"end delays":          {endDelaysSQL, "managed_failed_with"},
		"failing":             {failingSQL, "managed_failing"},
		"later hooks":         {laterHooksSQL, "hooks_pending_due"},
		"try hooks":           {tryHooksSQL, "hooks_pending_due"},
		"parked":              {parkedSQL, "managed_parked"},
		"parked hooks":        {parkedHooksSQL, "hooks_pending_due"},
		"far leases":          {farLeasesSQL, "managed_lease"},
		"far leases of hooks": {farHooksSQL, "hooks_pending_lease"},
		"find by name":        {find(managed.Query{Name: "a.example"}), "sqlite_autoindex_managed_names_1"},
		"managed by id":       {managedByIDSQL, "sqlite_autoindex_managed_1"},
		"managed by names":    {managedByNamesSQL, "sqlite_autoindex_managed_2"},
		"list managed":        {listManagedSQL, "managed_client"},
		"list clients":        {clientsPageSQL, "sqlite_autoindex_clients_2"},
		"client by name":      {clientByNameSQL, "sqlite_autoindex_clients_2"},
		"credential":          {credentialSQL, "sqlite_autoindex_credentials_2"},
		"credentials":         {credentialsSQL, "credentials_client"},
		"hosts":               {hostsSQL, "credentials_client"},
		"audit":               {audit(trail.Query{}), "sqlite_autoindex_audit_1"},
		"audit by client":     {audit(trail.Query{Client: "c"}), "audit_client"},
		"audit by outcome":    {audit(trail.Query{Outcome: "o"}), "audit_outcome"},
		"audit by both":       {audit(trail.Query{Client: "c", Outcome: "o"}), "audit_client_outcome"},
		"audit by name":       {audit(trail.Query{Name: "n", Client: "c"}), "audit_client"},
		"prune audit":         {pruneAuditSQL, "audit_share"},
		"purge pauses":        {purgePausesSQL, "pauses_expiry"},
		"pause":               {pauseSQL, "sqlite_autoindex_pauses_1"},
		"room":                {roomSQL, "managed_client"},
		"rows of a name":      {rowsOfNameSQL, "sqlite_autoindex_managed_names_1"},
	} {
		t.Run(name, func(t *testing.T) {
			plan := explain(t, s, tc.query)
			if !strings.Contains(plan, "INDEX "+tc.index+" ") {
				t.Errorf("does not use %s", tc.index)
			}
			for line := range strings.Lines(plan) {
				step := strings.TrimSpace(line)
				scans := strings.HasPrefix(step, "SCAN ") && !strings.Contains(step, "INDEX") &&
					step != "SCAN due" && step != "SCAN c" && step != "SCAN d" && step != "SCAN first" &&
					step != "SCAN found" // the page that was selected, which is short
				if scans || strings.Contains(step, "TEMP B-TREE FOR ORDER BY") {
					t.Errorf("reads more than it needs: %s", step)
				}
			}
			if t.Failed() {
				t.Log(plan)
			}
		})
	}
}

func explain(t *testing.T, s *Store, query string) string {
	t.Helper()
	args := make([]any, 0, 4)
	for _, p := range []string{"$1", "$2", "$3", "$4"} {
		if strings.Contains(query, p) {
			args = append(args, 1)
		}
	}
	rows, err := s.Reader().QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+query, args...)
	type step struct{ detail string }
	steps, err := sqldb.Collect(rows, err, func(r sqldb.Scanner) (st step, err error) {
		var id, parent, unused int
		err = r.Scan(&id, &parent, &unused, &st.detail)
		return st, err
	})
	if err != nil {
		t.Fatal(err)
	}
	var plan strings.Builder
	for _, st := range steps {
		plan.WriteString(st.detail + "\n")
	}
	return plan.String()
}
