package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/auth"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/policy"
	"github.com/acmeproxy/acmeproxy/pkg/store"
	"github.com/acmeproxy/acmeproxy/pkg/trail"
)

// rig holds an audit log on a real store, with a clock that tests advance.
type rig struct {
	*Log
	st  *store.Store
	dir string
	log *bytes.Buffer
	ms  atomic.Int64
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{dir: t.TempDir(), log: new(bytes.Buffer)}
	r.ms.Store(time.Date(2026, 3, 1, 22, 30, 0, 0, time.UTC).UnixMilli())
	now := func() time.Time { return time.UnixMilli(r.ms.Load()).UTC() }
	st, err := store.Open(t.Context(), store.Config{Path: filepath.Join(r.dir, "acmeproxy.db"), Now: now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	r.st = st
	r.Log = New(Config{Store: st, Logger: slog.New(slog.NewTextHandler(r.log, nil)), Now: now})
	return r
}

func (r *rig) advance(d time.Duration) { r.ms.Add(d.Milliseconds()) }

func (r *rig) client(t *testing.T, name string, grants ...clients.Grant) clients.Identity {
	t.Helper()
	c, err := r.st.CreateClient(t.Context(), clients.Client{Name: name, Grants: grants})
	if err != nil {
		t.Fatal(err)
	}
	return clients.Identity{Client: c, Via: clients.TLSKey, Addr: netip.MustParseAddr("192.0.2.7")}
}

func (r *rig) entries(t *testing.T, q trail.Query) []trail.Entry {
	t.Helper()
	q.Limit = 1000
	entries, err := r.st.Audit(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

func (r *rig) last(t *testing.T) trail.Entry {
	t.Helper()
	entries := r.entries(t, trail.Query{})
	if len(entries) == 0 {
		t.Fatal("the audit trail is empty")
	}
	return entries[0]
}

func grant(quota int, patterns ...string) clients.Grant {
	return clients.Grant{Names: patterns, Modes: []clients.Mode{clients.ModeAgent, clients.ModeGateway}, DailyQuota: quota}
}

func agent(names ...string) policy.Request {
	return policy.Request{Mode: clients.ModeAgent, Names: names, KeyType: cert.EC256}
}

func gateway(names ...string) policy.Request {
	return policy.Request{Mode: clients.ModeGateway, Names: names, KeyType: cert.EC256}
}

// A22, X14: who, from where, which names, what came of it.
func TestAuthorizeAgent(t *testing.T) {
	r := newRig(t)
	id := r.client(t, "web1", grant(0, "a.example"))
	if err := r.Authorize(t.Context(), Ask{By: id, Action: ActionRequest, Request: agent("a.example"), Costs: true}); err != nil {
		t.Fatal(err)
	}
	e := r.last(t)
	if e.ClientID != id.Client.ID || e.ClientName != "web1" || e.Addr != "192.0.2.7" || e.Action != ActionRequest ||
		e.Mode != clients.ModeAgent || !slices.Equal(e.Names, []string{"a.example"}) || e.Outcome != trail.Allowed || e.Detail != "" || !e.At.Equal(r.now()) {
		t.Errorf("entry %+v", e)
	}
	err := r.Authorize(t.Context(), Ask{By: id, Action: ActionRequest, Request: agent("a.example", "b.example"), Costs: true})
	var denied *policy.Denied
	if !errors.As(err, &denied) {
		t.Fatalf("error %v", err)
	}
	e = r.last(t)
	if e.ClientName != "web1" || e.Addr != "192.0.2.7" || !slices.Equal(e.Names, []string{"a.example", "b.example"}) || e.Outcome != trail.Refused || e.Detail != err.Error() {
		t.Errorf("entry %+v", e)
	}
}

// X5: the rate of allowed requests is limited for each client, and denied requests
// do not count. The policy decides first.
func TestAuthorizeTooSoon(t *testing.T) {
	r := newRig(t)
	id, other := r.client(t, "web1", grant(0, "*.a.example")), r.client(t, "web2", grant(0, "*.b.example"))
	for range allowedBurst {
		if err := r.Authorize(t.Context(), Ask{By: id, Action: ActionRequest, Request: gateway("h.a.example"), Costs: true}); err != nil {
			t.Fatal(err)
		}
	}
	var soon *TooSoon
	if err := r.Authorize(t.Context(), Ask{By: id, Action: ActionRequest, Request: agent("h.a.example"), Costs: true}); !errors.As(err, &soon) || !soon.RetryAt.Equal(r.now().Add(allowedEvery)) {
		t.Errorf("one more: %v", err)
	}
	if entries := r.entries(t, trail.Query{}); len(entries) != 0 {
		t.Errorf("entries %+v", entries)
	}
	var denied *policy.Denied
	if err := r.Authorize(t.Context(), Ask{By: id, Action: ActionRequest, Request: gateway("h.b.example"), Costs: true}); !errors.As(err, &denied) {
		t.Errorf("what is not granted: %v", err)
	}
	if err := r.Authorize(t.Context(), Ask{By: other, Action: ActionRequest, Request: agent("h.b.example"), Costs: true}); err != nil {
		t.Errorf("another client: %v", err)
	}
	r.advance(allowedEvery)
	if err := r.Authorize(t.Context(), Ask{By: id, Action: ActionRequest, Request: agent("h.a.example"), Costs: true}); err != nil {
		t.Errorf("later: %v", err)
	}
}

// A14, X14: an allowed gateway request leaves nothing in the whole data dir
// and the log; a refused one leaves no name that the gateway could pass on.
func TestAuthorizeGateway(t *testing.T) {
	r := newRig(t)
	one := grant(3, "secret-one.example")
	two := grant(3, "secret-two.example")
	two.KeyTypes = []string{"rsa2048"}
	id := r.client(t, "web1", one, two)
	// The grants contain their patterns, so the search is for a name below a pattern.
	wide := r.client(t, "web2", grant(2, "*.hidden.example"), grant(2, "*.concealed.example"))
	for range 2 {
		if err := r.Authorize(t.Context(), Ask{By: wide, Action: ActionRequest, Request: gateway("needle.hidden.example"), Costs: true}); err != nil {
			t.Fatal(err)
		}
	}
	if entries := r.entries(t, trail.Query{}); len(entries) != 0 {
		t.Errorf("allowed requests left %+v", entries)
	}
	var exceeded *QuotaExceeded
	if err := r.Authorize(t.Context(), Ask{By: wide, Action: ActionRequest, Request: gateway("needle.hidden.example"), Costs: true}); !errors.As(err, &exceeded) {
		t.Fatalf("error %v", err)
	}
	if e := r.last(t); e.Outcome != trail.Refused || len(e.Names) != 0 || e.ClientName != "web2" {
		t.Errorf("entry %+v", e)
	}
	var denied *policy.Denied
	if err := r.Authorize(t.Context(), Ask{By: wide, Action: ActionRequest, Request: gateway("needle.hidden.example", "stranger.example"), Costs: true}); !errors.As(err, &denied) {
		t.Fatalf("error %v", err)
	}
	if e := r.last(t); !slices.Equal(e.Names, []string{"stranger.example"}) || !strings.Contains(e.Detail, "stranger.example") {
		t.Errorf("entry %+v", e)
	}
	if err := r.Authorize(t.Context(), Ask{By: wide, Action: ActionRequest, Request: gateway("needle.hidden.example", "needle.concealed.example"), Costs: true}); !errors.As(err, &denied) {
		t.Fatalf("error %v", err)
	}
	if err := r.Authorize(t.Context(), Ask{By: id, Action: ActionRequest, Request: gateway("secret-two.example"), Costs: true}); !errors.As(err, &denied) || denied.Field != "key_type" {
		t.Fatalf("error %v", err)
	}
	if e := r.last(t); len(e.Names) != 0 || strings.Contains(e.Detail, "secret") {
		t.Errorf("entry %+v", e)
	}
	r.search(t, "needle")
}

// search fails if text is anywhere in the data dir or the log.
func (r *rig) search(t *testing.T, text string) {
	t.Helper()
	files, err := os.ReadDir(r.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		data, err := os.ReadFile(filepath.Join(r.dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(data, []byte(text)) {
			t.Errorf("%s holds %q", f.Name(), text)
		}
	}
	if strings.Contains(r.log.String(), text) {
		t.Errorf("the log holds %q: %s", text, r.log)
	}
}

// X20: the 11th request of the day is refused, with the time to come back.
func TestQuota(t *testing.T) {
	r := newRig(t)
	id := r.client(t, "web1", grant(10, "*.a.example"), grant(0, "free.example"))
	other := r.client(t, "web2", grant(10, "*.a.example"))
	ask := func(id clients.Identity, req policy.Request) error {
		return r.Authorize(t.Context(), Ask{By: id, Action: ActionRequest, Request: req, Costs: true})
	}
	// Refusals and requests without quota do not count.
	if err := ask(id, agent("b.example")); err == nil {
		t.Fatal("b.example is allowed")
	}
	for i := range 20 {
		if err := ask(id, agent("free.example")); err != nil {
			t.Fatalf("free request %d: %v", i, err)
		}
	}
	for i := range 10 {
		req := agent(fmt.Sprintf("h%d.a.example", i))
		if i%2 == 1 {
			req.Mode = clients.ModeGateway // one quota for both modes
		}
		if err := ask(id, req); err != nil {
			t.Fatalf("request %d: %v", i+1, err)
		}
	}
	err := ask(id, agent("h11.a.example"))
	var exceeded *QuotaExceeded
	if !errors.As(err, &exceeded) || exceeded.Quota != 10 || !exceeded.RetryAt.Equal(time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)) {
		t.Fatalf("11th request: %v", err)
	}
	if want := "daily quota of 10 requests is used up; try again after 2026-03-02 00:00:00 UTC, or ask the proxy's administrator for more (daily_quota of"; !strings.HasPrefix(err.Error(), want) {
		t.Errorf("text %q", err)
	}
	if e := r.last(t); e.Outcome != trail.Refused || e.Detail != err.Error() || !slices.Equal(e.Names, []string{"h11.a.example"}) {
		t.Errorf("entry %+v", e)
	}
	for name, err := range map[string]error{
		"free names":     ask(id, agent("free.example")),
		"another client": ask(other, agent("h.a.example")),
		"asking again":   r.Authorize(t.Context(), Ask{By: id, Action: ActionRequest, Request: agent("h1.a.example")}),
	} {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := r.Authorize(t.Context(), Ask{By: id, Action: ActionRequest, Request: agent("b.example")}); err == nil {
		t.Error("asking again skips the policy")
	}
	r.advance(exceeded.RetryAt.Sub(r.now()) - time.Millisecond)
	if err := ask(id, agent("h12.a.example")); !errors.As(err, &exceeded) {
		t.Errorf("a moment before midnight: %v", err)
	}
	r.advance(time.Millisecond)
	if err := ask(id, agent("h12.a.example")); err != nil {
		t.Errorf("the next day: %v", err)
	}
}

// X20: a request is returned to the day on which it was counted.
func TestReturnedQuota(t *testing.T) {
	r := newRig(t)
	id := r.client(t, "web1", grant(2, "*.a.example"))
	ask := func() (Ask, error) {
		a := Ask{By: id, Action: ActionRequest, Request: agent("h.a.example"), Costs: true, At: r.Now()}
		return a, r.Authorize(t.Context(), a)
	}
	r.advance(r.now().Truncate(24 * time.Hour).Add(24*time.Hour - time.Second).Sub(r.now()))
	var late []Ask
	for range 2 {
		a, err := ask()
		if err != nil {
			t.Fatal(err)
		}
		late = append(late, a)
	}
	if err := r.ReturnQuota(t.Context(), late[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := ask(); err != nil {
		t.Errorf("after one was returned: %v", err)
	}
	r.advance(2 * time.Second)
	for range 2 {
		if _, err := ask(); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.ReturnQuota(t.Context(), late[1]); err != nil {
		t.Fatal(err)
	}
	var exceeded *QuotaExceeded
	if _, err := ask(); !errors.As(err, &exceeded) {
		t.Errorf("a request of yesterday was returned to today: %v", err)
	}
}

// X20: requests at the same time share the quota.
func TestQuotaConcurrent(t *testing.T) {
	r := newRig(t)
	id := r.client(t, "web1", grant(10, "*.a.example"))
	var wg sync.WaitGroup
	var allowed, exceeded atomic.Int32
	for i := range 30 {
		wg.Go(func() {
			err := r.Authorize(t.Context(), Ask{By: id, Action: ActionRequest, Request: agent(fmt.Sprintf("h%d.a.example", i)), Costs: true})
			var q *QuotaExceeded
			switch {
			case err == nil:
				allowed.Add(1)
			case errors.As(err, &q):
				exceeded.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if allowed.Load() != 10 || exceeded.Load() != 20 {
		t.Errorf("%d allowed, %d refused", allowed.Load(), exceeded.Load())
	}
	if n := len(r.entries(t, trail.Query{Outcome: trail.Refused})); n != 20 {
		t.Errorf("%d refusals are recorded", n)
	}
}

// X14: a request that could not be recorded or counted is not allowed.
func TestAuthorizeStoreFault(t *testing.T) {
	r := newRig(t)
	id := r.client(t, "web1", grant(5, "a.example"), grant(0, "b.example"))
	r.st.Close()
	for name, req := range map[string]policy.Request{
		"count": gateway("a.example"), "record": agent("b.example"),
	} {
		err := r.Authorize(t.Context(), Ask{By: id, Action: ActionRequest, Request: req, Costs: true})
		var denied *policy.Denied
		var exceeded *QuotaExceeded
		if err == nil || errors.As(err, &denied) || errors.As(err, &exceeded) || !strings.Contains(err.Error(), name+" the request") {
			t.Errorf("%s: %v", name, err)
		}
	}
	var denied *policy.Denied
	if err := r.Authorize(t.Context(), Ask{By: id, Action: ActionRequest, Request: agent("c.example"), Costs: true}); !errors.As(err, &denied) {
		t.Errorf("a refusal stays one: %v", err)
	}
	if s := r.log.String(); !strings.Contains(s, "audit entry lost") || !strings.Contains(s, "client=web1") || strings.Contains(s, "c.example") {
		t.Errorf("log %q", s)
	}
}

// A21, X14
func TestRefuse(t *testing.T) {
	r := newRig(t)
	r.Refuse(t.Context(), netip.MustParseAddr("198.51.100.1"), "enroll", "unknown, expired or used token")
	if e := r.last(t); e.Addr != "198.51.100.1" || e.Action != "enroll" || e.Outcome != trail.Refused || e.Detail != "unknown, expired or used token" || e.ClientName != "" || len(e.Names) != 0 {
		t.Errorf("entry %+v", e)
	}
	r.RefuseCaller(t.Context(), &auth.Error{Reason: auth.ReasonDisabled, Addr: netip.MustParseAddr("198.51.100.2"), ClientID: "1", ClientName: "off"})
	if e := r.last(t); e.Addr != "198.51.100.2" || e.Action != ActionAuthenticate || e.ClientName != "off" || e.Detail != string(auth.ReasonDisabled) {
		t.Errorf("entry %+v", e)
	}
	r.Refuse(t.Context(), netip.Addr{}, "authenticate", strings.Repeat("ü", maxDetail))
	if e := r.last(t); e.Addr != "" || len(e.Detail) > maxDetail+2 {
		t.Errorf("entry from %q with %d bytes of detail", e.Addr, len(e.Detail))
	}
}

// X14: a closed connection does not keep a refusal out of the audit trail.
func TestRecordAfterHangUp(t *testing.T) {
	r := newRig(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r.Refuse(ctx, netip.MustParseAddr("198.51.100.1"), "authenticate", "gone")
	if e := r.last(t); e.Detail != "gone" {
		t.Errorf("entry %+v", e)
	}
}

// X14: a flood of refusals is limited, counted, and does not hide those of others.
func TestRefusalFlood(t *testing.T) {
	r := newRig(t)
	stranger := netip.MustParseAddr("198.51.100.1")
	flood := func(n int) {
		for range n {
			r.Refuse(t.Context(), stranger, "authenticate", "flood")
		}
	}
	flood(1000)
	if n := len(r.entries(t, trail.Query{})); n != refusalsBurst {
		t.Errorf("%d refusals of a burst are recorded, want %d", n, refusalsBurst)
	}
	if n := strings.Count(r.log.String(), "too many refusals"); n != 1 {
		t.Errorf("the flood is logged %d times: %s", n, r.log)
	}
	id := r.client(t, "web1", grant(0, "a.example"))
	if err := r.Authorize(t.Context(), Ask{By: id, Action: ActionRequest, Request: agent("b.example"), Costs: true}); err == nil {
		t.Fatal("b.example is allowed")
	}
	if e := r.last(t); e.ClientName != "web1" {
		t.Error("a stranger's flood hides a client's refusal")
	}
	for range 200 {
		r.Record(t.Context(), trail.Entry{ClientID: id.Client.ID, ClientName: "web1", Action: "read", Outcome: trail.Refused})
	}
	if n := len(r.entries(t, trail.Query{Client: "web1"})); n != refusalsBurst {
		t.Errorf("%d refusals of one client are recorded, want %d", n, refusalsBurst)
	}
	r.Record(t.Context(), trail.Entry{ClientID: id.Client.ID, ClientName: "web1", Action: "delete", Outcome: trail.Done})
	if e := r.last(t); e.Action != "delete" {
		t.Error("the bound on refusals drops what was done")
	}
	r.log.Reset()
	r.advance(reportEvery)
	r.Refuse(t.Context(), stranger, "authenticate", "after the flood")
	// 900 and 101 were dropped; the first was told at once.
	if s := r.log.String(); !strings.Contains(s, "dropped=1000") {
		t.Errorf("log %q", s)
	}
	if e := r.last(t); e.Detail != "after the flood" {
		t.Errorf("entry %+v", e)
	}
	r.advance(reportEvery)
	r.log.Reset()
	flood(1)
	if r.log.Len() != 0 {
		t.Errorf("nothing was dropped, and yet: %s", r.log)
	}
}

// A request without names is denied with any grant (A22). Only a question that also
// has no mode checks the client's network alone.
func TestAuthorizeNoNames(t *testing.T) {
	r := newRig(t)
	id := clients.Identity{Client: clients.Client{ID: "c", Name: "web1", Grants: []clients.Grant{
		{Names: []string{"**.example"}, Modes: clients.GrantableModes()},
	}}}
	for _, mode := range clients.GrantableModes() {
		var denied *policy.Denied
		err := r.Authorize(t.Context(), Ask{By: id, Action: ActionRequest, Request: policy.Request{Mode: mode}, Costs: true})
		if !errors.As(err, &denied) || denied.Field != "names" {
			t.Errorf("mode %s: %v", mode, err)
		}
	}
	if err := r.Authorize(t.Context(), Ask{By: id, Action: ActionRequest}); err != nil {
		t.Errorf("the network alone: %v", err)
	}
}

// X20: what is announced is refused once the quota is used up, and counts nothing.
func TestAuthorizeAnnounced(t *testing.T) {
	r := newRig(t)
	id := r.client(t, "web1", grant(1, "a.example"))
	ask := Ask{By: id, Action: ActionRequest, Request: agent("a.example"), Announces: true}
	for range 3 {
		if err := r.Authorize(t.Context(), ask); err != nil {
			t.Fatal(err)
		}
	}
	if entries := r.entries(t, trail.Query{}); len(entries) != 0 {
		t.Errorf("entries %+v", entries)
	}
	taken := ask
	taken.Announces, taken.Costs = false, true
	if err := r.Authorize(t.Context(), taken); err != nil {
		t.Fatal(err)
	}
	var exceeded *QuotaExceeded
	if err := r.Authorize(t.Context(), ask); !errors.As(err, &exceeded) || exceeded.Quota != 1 {
		t.Errorf("used up: %v", err)
	}
	if e := r.last(t); e.Outcome != trail.Refused {
		t.Errorf("entry %+v", e)
	}
	r.advance(24 * time.Hour)
	if err := r.Authorize(t.Context(), ask); err != nil {
		t.Errorf("on the next day: %v", err)
	}
}
