package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/store"
)

var auditCases = []testCase{
	{"an entry is read back whole", auditWhole},
	{"entries are paged, newest first", auditPages},
	{"nothing that a stranger sends avoids the trail", auditHostile},
	{"pruning keeps the newest", auditPrune},
}

var limitCases = []testCase{
	{"a quota is counted by client and day", quotaDays},
}

func auditWhole(t *testing.T, f *fixture) { // X14
	ctx := t.Context()
	want := store.AuditEntry{
		At: f.clock.Now().Add(-time.Hour), ClientID: "id", ClientName: "web1", Addr: "192.0.2.1", Action: "request",
		Mode: "certificate-agent", Names: []string{"a.example", "b.example"}, Outcome: "refused", Detail: "not granted",
	}
	ok(t, f.AppendAudit(ctx, want))
	ok(t, f.AppendAudit(ctx, store.AuditEntry{Action: "start", Outcome: "done"}))
	got := must(f.Audit(ctx, store.AuditQuery{}))(t)
	if len(got) != 2 || got[0].ID <= got[1].ID {
		t.Fatalf("%+v", got)
	}
	want.ID = got[1].ID
	equal(t, got[1], want)
	equal(t, got[0].At, f.clock.Now())
}

func auditPages(t *testing.T, f *fixture) {
	ctx := t.Context()
	for i := range 20 {
		ok(t, f.AppendAudit(ctx, store.AuditEntry{
			ClientName: fmt.Sprintf("c%d", i%2), Outcome: []string{"allowed", "refused"}[i/10], Detail: fmt.Sprint(i),
		}))
	}
	details := func(q store.AuditQuery) (got []string) {
		q.Limit = 3
		for {
			page := must(f.Audit(ctx, q))(t)
			if len(page) == 0 {
				return got
			}
			for _, e := range page {
				got = append(got, e.Detail)
			}
			q.Before = page[len(page)-1].ID
		}
	}
	equal(t, len(details(store.AuditQuery{})), 20)
	equal(t, details(store.AuditQuery{Client: "c1", Outcome: "refused"}), []string{"19", "17", "15", "13", "11"})
	equal(t, details(store.AuditQuery{Client: "c0"})[:3], []string{"18", "16", "14"})
	equal(t, details(store.AuditQuery{Outcome: "allowed"})[:3], []string{"9", "8", "7"})
	equal(t, len(details(store.AuditQuery{Client: "nobody"})), 0)
}

func auditHostile(t *testing.T, f *fixture) {
	ctx := t.Context()
	ok(t, f.AppendAudit(ctx, store.AuditEntry{
		ClientName: "x\x00", Action: "\xff", Names: []string{"a\nb", "", "\x00"}, Outcome: "refused", Detail: "'; DROP TABLE audit; --",
	}))
	got := must(f.Audit(ctx, store.AuditQuery{}))(t)
	equal(t, got[0].Names, []string{"a\uFFFDb", "\uFFFD"})
	equal(t, got[0].Detail, "'; DROP TABLE audit; --")
}

func auditPrune(t *testing.T, f *fixture) {
	ctx := t.Context()
	ok(t, f.PruneAudit(ctx, 5)) // of none
	for i := range 10 {
		ok(t, f.AppendAudit(ctx, store.AuditEntry{Outcome: "done", Detail: fmt.Sprint(i)}))
	}
	ok(t, f.PruneAudit(ctx, 20))
	equal(t, len(must(f.Audit(ctx, store.AuditQuery{}))(t)), 10)
	ok(t, f.PruneAudit(ctx, 3))
	got := must(f.Audit(ctx, store.AuditQuery{}))(t)
	equal(t, []string{got[0].Detail, got[1].Detail, got[2].Detail}, []string{"9", "8", "7"})
	equal(t, len(got), 3)
	ok(t, f.PruneAudit(ctx, 0))
	equal(t, len(must(f.Audit(ctx, store.AuditQuery{}))(t)), 0)
	ok(t, f.AppendAudit(ctx, store.AuditEntry{Outcome: "done"}))
	if last := must(f.Audit(ctx, store.AuditQuery{}))(t)[0].ID; last <= got[0].ID {
		t.Fatalf("id %d was given again after %d", last, got[0].ID)
	}
	if f.PruneAudit(ctx, -1) == nil {
		t.Fatal("a negative number was accepted")
	}
}

func quotaDays(t *testing.T, f *fixture) { // X20
	ctx := t.Context()
	a, b := f.client(t, "a"), f.client(t, "b")
	take := func(id string, at time.Time, quota int) bool {
		t.Helper()
		return must(f.TakeQuota(ctx, id, at, quota))(t)
	}
	day := time.Date(2026, 3, 1, 23, 59, 59, 0, time.UTC)
	for i := range 4 {
		equal(t, take(a.ID, day, 3), i < 3)
	}
	equal(t, take(a.ID, day.Truncate(24*time.Hour), 3), false)               // the same day
	equal(t, take(a.ID, day.In(time.FixedZone("ahead", 5*60*60)), 3), false) // days are UTC's
	equal(t, take(b.ID, day, 3), true)                                       // another client
	equal(t, take(a.ID, day.Add(time.Second), 3), true)                      // another day
	equal(t, take(a.ID, day, 3), false)                                      // a late clock gets nothing more
	equal(t, take(a.ID, day, 0), true)                                       // only counted
	equal(t, take(a.ID, day, 5), true)                                       // a raised limit: 3 + 1 counted so far
	equal(t, take(a.ID, day, 5), false)                                      // and that was the fifth
	equal(t, take(a.ID, day.Add(72*time.Hour), 1), true)                     // long after
	equal(t, take(a.ID, day.Add(72*time.Hour), 1), false)
	_, err := f.TakeQuota(ctx, "nobody", day, 1)
	wantErr(t, err, store.ErrNotFound)
}
