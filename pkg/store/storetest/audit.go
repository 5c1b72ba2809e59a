package storetest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/store"
	"github.com/acmeproxy/acmeproxy/pkg/trail"
)

var auditCases = []testCase{
	{"an entry is read back whole", auditWhole},
	{"entries are paged, newest first", auditPages},
	{"entries are found by a name and by the time", auditByNameAndTime},
	{"nothing that a stranger sends avoids the trail", auditHostile},
	{"shares of the trail are bounded and apart", auditShares},
	{"a removed client's entries have a bound in common", auditRemoved},
}

var limitCases = []testCase{
	{"a quota is counted by client and day", quotaDays},
}

func auditWhole(t *testing.T, f *fixture) { // X14
	ctx := t.Context()
	want := trail.Entry{
		At: f.clock.Now().Add(-time.Hour), ClientID: "id", ClientName: "web1", Addr: "192.0.2.1", Action: "request",
		Mode: "certificate-agent", Names: []string{"a.example", "b.example"}, Outcome: "refused", Detail: "not granted",
	}
	ok(t, f.AppendAudit(ctx, want))
	ok(t, f.AppendAuditLazily(ctx, trail.Entry{Action: "start", Outcome: "done"}))
	got := must(f.Audit(ctx, trail.Query{}))(t)
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
		ok(t, f.AppendAudit(ctx, trail.Entry{
			ClientName: fmt.Sprintf("c%d", i%2), Outcome: []string{"allowed", "refused"}[i/10], Detail: fmt.Sprint(i),
		}))
	}
	details := func(q trail.Query) (got []string) {
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
	equal(t, len(details(trail.Query{})), 20)
	equal(t, details(trail.Query{Client: "c1", Outcome: "refused"}), []string{"19", "17", "15", "13", "11"})
	equal(t, details(trail.Query{Client: "c0"})[:3], []string{"18", "16", "14"})
	equal(t, details(trail.Query{Outcome: "allowed"})[:3], []string{"9", "8", "7"})
	equal(t, len(details(trail.Query{Client: "unknown"})), 0)
}

// The name is one whole name, and wildcards of the query language mean themselves.
func auditByNameAndTime(t *testing.T, f *fixture) { // X14
	ctx := t.Context()
	now := f.clock.Now()
	for i, names := range [][]string{{"a.example", "b.example"}, {"aa.example"}, {"b.example"}, nil, {"*.b.example"}, {"a_example"}, {"x!y.example"}} {
		ok(t, f.AppendAudit(ctx, trail.Entry{At: now.Add(time.Duration(i) * time.Hour), ClientName: "c", Names: names, Outcome: "done", Detail: fmt.Sprint(i)}))
	}
	for _, test := range []struct {
		query trail.Query
		want  []string
	}{
		{trail.Query{Name: "b.example"}, []string{"2", "0"}},
		{trail.Query{Name: "a.example"}, []string{"0"}},
		{trail.Query{Name: "*.b.example"}, []string{"4"}},
		{trail.Query{Name: "a_example"}, []string{"5"}},
		{trail.Query{Name: "x!y.example"}, []string{"6"}},
		{trail.Query{Name: "%"}, nil},
		{trail.Query{Name: "example"}, nil},
		{trail.Query{Since: now.Add(5 * time.Hour)}, []string{"6", "5"}},
		{trail.Query{Since: now.Add(8 * time.Hour)}, nil},
		{trail.Query{Name: "b.example", Since: now.Add(time.Hour), Client: "c", Outcome: "done"}, []string{"2"}},
		{trail.Query{Name: "b.example", Client: "d"}, nil},
		{trail.Query{Since: now.Add(2 * time.Hour), Limit: 2, Before: 6}, []string{"4", "3"}},
	} {
		var got []string
		for _, e := range must(f.Audit(ctx, test.query))(t) {
			got = append(got, e.Detail)
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%+v: got %q, want %q", test.query, got, test.want)
		}
	}
}

func auditHostile(t *testing.T, f *fixture) {
	ctx := t.Context()
	ok(t, f.AppendAudit(ctx, trail.Entry{
		ClientName: "x\x00", Action: "\xff", Names: []string{"a\nb", "", "\x00"}, Outcome: "refused", Detail: "'; DROP TABLE audit; --",
	}))
	got := must(f.Audit(ctx, trail.Query{}))(t)
	equal(t, got[0].Names, []string{"a\uFFFDb", "\uFFFD"})
	equal(t, got[0].Detail, "'; DROP TABLE audit; --")
}

// auditCount reads the whole trail and returns how many entries have each detail.
func auditCount(t *testing.T, f *fixture, q trail.Query) map[string]int {
	t.Helper()
	n := map[string]int{}
	q.Limit = 5000
	for {
		page := must(f.Audit(t.Context(), q))(t)
		if len(page) == 0 {
			return n
		}
		for _, e := range page {
			n[e.Detail]++
		}
		q.Before = page[len(page)-1].ID
	}
}

// twenty repeats an entry.
func twenty(e trail.Entry) []trail.Entry {
	return slices.Repeat([]trail.Entry{e}, 20)
}

// Trail is a small one, for the stores that the contract is tested on.
var Trail = store.Trail{Own: 2000, Strangers: 100, Client: 50, Refused: 10, Removed: 200}

// Neither unknown callers nor clients displace entries about others, or about their own
// actions, and each share has a limit (X14, X42).
func auditShares(t *testing.T, f *fixture) {
	ctx := t.Context()
	hostile, other := f.client(t, "hostile"), f.client(t, "other")
	for _, e := range []trail.Entry{
		{ClientID: other.ID, ClientName: "other", Addr: "admin", Action: "client add", Outcome: "done", Detail: "admin"},
		{ClientID: hostile.ID, ClientName: "hostile", Addr: "admin", Action: "client add", Outcome: "done", Detail: "admin"},
		{Action: "certificate", Mode: "acme-client", Outcome: "failed", Detail: "proxy"},
		{ClientID: other.ID, ClientName: "other", Outcome: "allowed", Detail: "other did"},
		{ClientID: other.ID, ClientName: "other", Outcome: "refused", Detail: "other was refused"},
		{ClientID: hostile.ID, ClientName: "hostile", Outcome: "allowed", Detail: "hostile did"},
		{ClientID: hostile.ID, ClientName: "hostile", Outcome: "refused", Detail: "hostile was refused"},
		{Addr: "192.0.2.1", Outcome: "refused", Detail: "stranger"},
	} {
		ok(t, f.AppendAudit(ctx, e))
	}
	for range 7 {
		ok(t, f.AppendAudit(ctx, twenty(trail.Entry{Addr: "192.0.2.1", Outcome: "refused", Detail: "strangers"})...))
	}
	n := auditCount(t, f, trail.Query{})
	want := map[string]int{"admin": 2, "proxy": 1, "other did": 1, "other was refused": 1, "hostile did": 1, "hostile was refused": 1}
	strangers := n["strangers"]
	if strangers < 10 || strangers > 100 || n["stranger"] != 0 {
		t.Fatalf("%d refusals of strangers are kept", strangers)
	}
	delete(n, "strangers")
	equal(t, n, want)

	for range 4 {
		ok(t, f.AppendAudit(ctx, twenty(trail.Entry{ClientID: hostile.ID, ClientName: "hostile", Outcome: "refused", Detail: "refusals"})...))
		ok(t, f.AppendAudit(ctx, twenty(trail.Entry{ClientID: hostile.ID, ClientName: "hostile", Outcome: "done", Detail: "deeds"})...))
	}
	n = auditCount(t, f, trail.Query{})
	if n["refusals"] != 10 || n["deeds"] != 50 || n["strangers"] != strangers {
		t.Fatalf("%v", n)
	}
	delete(n, "refusals")
	delete(n, "deeds")
	delete(n, "strangers")
	delete(want, "hostile did")
	delete(want, "hostile was refused")
	equal(t, n, want)
}

// The trail outlives a client, and does not grow with each removed client.
func auditRemoved(t *testing.T, f *fixture) {
	ctx := t.Context()
	for i := range 6 {
		c := f.client(t, fmt.Sprintf("c%d", i))
		name := fmt.Sprintf("did %d", i)
		for range 3 {
			ok(t, f.AppendAudit(ctx, twenty(trail.Entry{ClientID: c.ID, ClientName: c.Name, Outcome: "done", Detail: name})...))
		}
		ok(t, f.AppendAudit(ctx, trail.Entry{ClientID: c.ID, ClientName: c.Name, Outcome: "refused", Detail: "refused"}))
		if i%2 == 0 {
			ok(t, f.RemoveClient(ctx, c.ID))
			continue
		}
		must(f.ApplyClients(ctx, clients.Apply{Prune: true}, nil))(t)
	}
	n := auditCount(t, f, trail.Query{})
	total := 0
	for _, k := range n {
		total += k
	}
	if total != 200 || n["did 5"] != 50 || n["did 0"] != 0 {
		t.Fatalf("%d entries of removed clients are kept: %v", total, n)
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
	equal(t, must(f.QuotaTaken(ctx, a.ID, day))(t), 5)
	equal(t, must(f.QuotaTaken(ctx, b.ID, day.Add(48*time.Hour)))(t), 0)
	equal(t, take(a.ID, day.Add(72*time.Hour), 1), true) // long after
	equal(t, take(a.ID, day.Add(72*time.Hour), 1), false)
	ok(t, f.ReturnQuota(ctx, a.ID, day.Add(72*time.Hour))) // it came to nothing
	equal(t, take(a.ID, day.Add(72*time.Hour), 1), true)
	equal(t, take(a.ID, day.Add(72*time.Hour), 1), false)
	ok(t, f.ReturnQuota(ctx, a.ID, day.Add(96*time.Hour))) // nothing was taken on that day
	entry := trail.Entry{ClientID: a.ID, Action: "request", Outcome: "allowed"}
	equal(t, must(f.TakeQuota(ctx, a.ID, day.Add(72*time.Hour), 2, entry))(t), true)
	equal(t, must(f.TakeQuota(ctx, a.ID, day.Add(72*time.Hour), 2, entry))(t), false) // it is stored only if it is allowed
	equal(t, len(must(f.Audit(ctx, trail.Query{Outcome: "allowed"}))(t)), 1)
	_, err := f.TakeQuota(ctx, "unknown", day, 1)
	wantErr(t, err, managed.ErrNotFound)
}
