package client_test

import (
	"database/sql"
	"path/filepath"
	"strings"
	"testing"

	"github.com/acmeproxy/acmeproxy/internal/pgtest"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
)

// A certificate whose names change after an upgrade stays in its folder. No file of it
// goes stale, whatever was added, removed or misspelled meanwhile, and the former
// certificate is renewed no more (X43).
func TestFolderAfterUpgrade(t *testing.T) {
	t.Parallel()
	for what, steps := range map[string][][]string{
		"a name is added":              {{"www.example.com,api.example.com,bar.example.com"}},
		"added after a start":          {{"www.example.com,api.example.com"}, {"www.example.com,api.example.com,bar.example.com"}},
		"a name is removed":            {{"www.example.com"}},
		"the first name is removed":    {{"www.example.com,bar.example.com"}},
		"removed and added":            {{"www.example.com"}, {"www.example.com,bar.example.com"}},
		"several are added":            {{"bar.example.com,www.example.com,api.example.com"}, {"foo.example.com,bar.example.com,www.example.com,api.example.com"}},
		"another certificate is added": {{"bar.example.com", "www.example.com,api.example.com,foo.example.com"}},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			p, _ := ofOlderProgram(t, "")
			var names []string
			for _, domains := range steps {
				p.Restart(t, configured(domains...))
				names = strings.Split(domains[len(domains)-1], ",")
				settled(t, p, names[0])
			}
			if got, want := inFolder(p, "api.example.com"), proxytest.Names(t, names...).Key(); got != want {
				t.Errorf("the folder has the certificate for %q, want %q", got, want)
			}
			if inFolder(p, "www.example.com") != "" || strings.Contains(p.Log(), "not renewed") {
				t.Errorf("log:\n%s", p.Log())
			}
			if got := renewed(t, open(t, p, "")); len(got) != len(steps[len(steps)-1]) {
				t.Errorf("these are renewed: %v", got)
			}
		})
	}
}

// A set takes a folder only if that certificate is gone from the configuration, and was
// renewed until then. A chosen name is used as it is (X43).
func TestFolderNotInherited(t *testing.T) {
	t.Parallel()
	for what, test := range map[string]struct {
		domains []string
		folder  string // of the last set
		stale   bool
	}{
		"the former is configured still": {[]string{"api.example.com,www.example.com", "www.example.com,bar.example.com"}, "www.example.com", false},
		"another set has that name":      {[]string{"api.example.com", "www.example.com,bar.example.com"}, "www.example.com", false},
		"no common name":                 {[]string{"bar.example.com"}, "bar.example.com", true},
		"a chosen name":                  {[]string{"lb=www.example.com,api.example.com,bar.example.com"}, "lb", true},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			p, _ := ofOlderProgram(t, "")
			p.Restart(t, configured(test.domains...))
			last := test.domains[len(test.domains)-1]
			names := proxytest.Names(t, strings.Split(last[strings.Index(last, "=")+1:], ",")...)
			holds(t, p, test.folder, names.Key())
			settled(t, p, names[0])
			if stale := strings.Contains(p.Log(), "is not configured any more"); stale != test.stale {
				t.Errorf("reported as stale: %v; log:\n%s", stale, p.Log())
			}
		})
	}
}

// The folder stays on PostgreSQL, too (X43).
func TestFolderAfterUpgradePostgres(t *testing.T) {
	t.Parallel()
	p, db := ofOlderProgram(t, pgtest.Start(t).Database(t))
	p.Restart(t, configured("www.example.com,api.example.com,bar.example.com"))
	holds(t, p, "api.example.com", "api.example.com,bar.example.com,www.example.com")
	settled(t, p, "bar.example.com")
	if got := renewed(t, db); inFolder(p, "www.example.com") != "" || len(got) != 1 {
		t.Errorf("these are renewed: %v; log:\n%s", got, p.Log())
	}
}

// ofOlderProgram returns a stopped proxy with a certificate of an older program, whose
// rows have no names. store is empty for SQLite.
func ofOlderProgram(t *testing.T, store string) (*proxytest.Proxy, *sql.DB) {
	t.Helper()
	p := proxytest.Start(t, proxytest.Options{Store: store, Change: configured("api.example.com,www.example.com")})
	settled(t, p, "api.example.com")
	db := open(t, p, store)
	if _, err := db.ExecContext(t.Context(), "UPDATE managed SET name = ''"); err != nil {
		t.Fatal(err)
	}
	return p, db
}

// open returns the database of a stopped proxy.
func open(t *testing.T, p *proxytest.Proxy, store string) *sql.DB {
	t.Helper()
	driver := "pgx"
	if store == "" {
		driver, store = "sqlite", filepath.Join(p.DataDir, "acmeproxy.db")
	}
	db, err := sql.Open(driver, store)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// renewed returns the names of the certificates that are renewed.
func renewed(t *testing.T, db *sql.DB) (names []string) {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), "SELECT names FROM managed WHERE due_at > 0")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return names
}
