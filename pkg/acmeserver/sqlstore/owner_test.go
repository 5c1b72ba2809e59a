package sqlstore_test

import (
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/pgtest"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver/sqlstore"
	"github.com/acmeproxy/acmeproxy/pkg/store/sqldb"
)

// What belongs to an owner with a prefix is found in pages, and its accounts are
// deactivated, whatever the database's collation (C12).
func TestOwners(t *testing.T) {
	t.Parallel()
	for name, at := range map[string]sqldb.Config{
		"SQLite":     {Path: filepath.Join(t.TempDir(), "acmed.db")},
		"PostgreSQL": {URL: pgtest.Start(t).Database(t)},
	} {
		t.Run(name, func(t *testing.T) {
			db := open(t, at)
			t.Cleanup(func() { closing(t, db) })
			testOwners(t, sqlstore.New(db))
		})
	}
}

func testOwners(t *testing.T, s *sqlstore.Store) {
	t.Helper()
	ctx, now := t.Context(), time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for id, owner := range map[string]string{"1": "a.x", "2": "a.y", "3": "ab.x", "4": "b.a.x", "5": "a.x", "6": "a.x"} {
		a := acmeserver.Account{ID: id, Thumbprint: id, Status: acmeserver.StatusValid, Owner: owner, CreatedAt: now}
		o := acmeserver.Order{ID: id, AccountID: id, Owner: owner, Status: acmeserver.StatusProcessing, CreatedAt: now, Expires: now.Add(time.Hour)}
		c := acmeserver.Certificate{ID: id, OrderID: id, AccountID: id, Owner: owner, Fingerprint: id, NotAfter: now.Add(time.Hour), CreatedAt: now}
		if id == "5" {
			c.NotAfter = now
		}
		if err := s.CreateAccount(ctx, a, 0); err != nil {
			t.Fatal(err)
		}
		if err := s.CreateOrder(ctx, o, 0); err != nil {
			t.Fatal(err)
		}
		o.Status, o.CertificateID, o.Version = acmeserver.StatusValid, id, 1
		if err := s.CompleteOrder(ctx, o, c); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.SetRevoked(ctx, "6", now, 1); err != nil {
		t.Fatal(err)
	}
	var found []string
	for after := ""; ; after = found[len(found)-1] {
		page, err := s.LiveCertificates(ctx, "a.", after, now, 1)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		found = append(found, page[0].ID)
	}
	if !slices.Equal(found, []string{"1", "2"}) {
		t.Errorf("found %q", found)
	}
	for range 2 {
		if err := s.DeactivateAccounts(ctx, "a."); err != nil {
			t.Fatal(err)
		}
	}
	for id, want := range map[string]acmeserver.Status{"1": acmeserver.StatusDeactivated, "2": acmeserver.StatusDeactivated, "3": acmeserver.StatusValid, "4": acmeserver.StatusValid} {
		if a, err := s.AccountByID(ctx, id); err != nil || a.Status != want {
			t.Errorf("account %s is %s, %v; want %s", id, a.Status, err, want)
		}
	}
}
