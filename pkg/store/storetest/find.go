package storetest

import (
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
)

var findCases = []testCase{
	{"certificates are found by owner, name, end and failure", findSelects},
	{"found certificates are paged by id", findPages},
}

func findSelects(t *testing.T, f *fixture) { // X44
	ctx := t.Context()
	c := f.client(t, "web1")
	now := f.clock.Now()
	good := must2(f.EnsureManaged(ctx, managed.Certificate{ClientID: c.ID, Mode: clients.ModeAgent, Names: []string{"a.example", "b.example"}}))(t)
	f.claim(t, "w")
	b := f.bundle(good.ID, "e1")
	b.NotAfter = now.Add(48 * time.Hour)
	ok(t, f.CompleteManaged(ctx, "w", b, now.Add(time.Hour), false))
	bad := must2(f.EnsureManaged(ctx, managed.Certificate{ClientID: c.ID, Mode: clients.ModeAgent, Names: []string{"bad.example"}}))(t)
	f.claim(t, "w")
	ok(t, f.FailManaged(ctx, bad.ID, "w", managed.Failure{Reason: "r", RetryAt: now.Add(time.Hour)}))
	own := must2(f.EnsureManaged(ctx, managed.Certificate{Mode: clients.ModeClient, Names: []string{"own.example"}, Name: "lb"}))(t)
	f.claim(t, "w")
	b = f.bundle(own.ID, "e2")
	b.NotAfter = now.Add(96 * time.Hour)
	ok(t, f.CompleteManaged(ctx, "w", b, now.Add(time.Hour), true))
	must(f.ClaimHooks(ctx, "w", time.Minute, 1))(t)
	ok(t, f.FailHook(ctx, own.ID, "w", "e2", managed.Failure{Reason: "r", RetryAt: now.Add(time.Hour)}))

	revoked := must2(f.EnsureManaged(ctx, managed.Certificate{ClientID: c.ID, Mode: clients.ModeAgent, Names: []string{"revoked.example"}}))(t)
	f.claim(t, "w")
	b = f.bundle(revoked.ID, "e3")
	b.NotAfter = now.Add(200 * time.Hour)
	ok(t, f.CompleteManaged(ctx, "w", b, now.Add(time.Hour), false))
	ok(t, f.RevokeManaged(ctx, revoked.ID, b.Serial, now.Add(time.Hour), nil))

	proxy, unknown := "", "missing"
	for name, tc := range map[string]struct {
		q    managed.Query
		want []string
	}{
		"all":                  {managed.Query{}, []string{good.ID, bad.ID, own.ID, revoked.ID}},
		"of a client":          {managed.Query{Client: &c.ID}, []string{good.ID, bad.ID, revoked.ID}},
		"of the proxy":         {managed.Query{Client: &proxy}, []string{own.ID}},
		"of an unknown one":    {managed.Query{Client: &unknown}, nil},
		"by a name":            {managed.Query{Name: "b.example"}, []string{good.ID}},
		"by a stored name":     {managed.Query{Name: "lb"}, []string{own.ID}},
		"by a foreign name":    {managed.Query{Name: "example"}, nil},
		"failing":              {managed.Query{Failing: true}, []string{bad.ID, own.ID, revoked.ID}},
		"soon at an end":       {managed.Query{ExpiresBefore: now.Add(72 * time.Hour)}, []string{good.ID}},
		"later at an end":      {managed.Query{ExpiresBefore: now.Add(97 * time.Hour)}, []string{good.ID, own.ID}},
		"failing, of a client": {managed.Query{Failing: true, Client: &c.ID}, []string{bad.ID, revoked.ID}},
	} {
		got := map[string]bool{}
		for _, m := range must(f.FindManaged(ctx, tc.q))(t) {
			got[m.ID] = true
		}
		if len(got) != len(tc.want) {
			t.Errorf("%s: %d rows, want %d", name, len(got), len(tc.want))
		}
		for _, id := range tc.want {
			if !got[id] {
				t.Errorf("%s: %s is missing", name, id)
			}
		}
	}
}

func findPages(t *testing.T, f *fixture) {
	ctx := t.Context()
	for _, name := range []string{"a.example", "b.example", "c.example"} {
		f.manage(t, name)
	}
	var ids []string
	for after := ""; ; {
		page := must(f.FindManaged(ctx, managed.Query{After: after, Limit: 2}))(t)
		if len(page) == 0 {
			break
		}
		for _, m := range page {
			if m.ID <= after {
				t.Errorf("%s comes after %s", m.ID, after)
			}
			ids, after = append(ids, m.ID), m.ID
		}
	}
	equal(t, len(ids), 3)
}
