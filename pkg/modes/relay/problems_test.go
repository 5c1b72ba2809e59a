package relay

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
	"github.com/acmeproxy/acmeproxy/pkg/audit"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/issuer"
	"github.com/acmeproxy/acmeproxy/pkg/store"
	"github.com/acmeproxy/acmeproxy/pkg/trail"
)

// fakeCA fails each order with an error.
type fakeCA struct {
	CA
	err    error
	orders int
}

func (f *fakeCA) HasCA(string) bool { return false }

func (f *fakeCA) Issue(context.Context, cert.Request, func(acme.Event)) (*cert.Bundle, error) {
	f.orders++
	return nil, f.err
}

func (f *fakeCA) Meta(context.Context) (issuer.Meta, error) {
	f.orders++
	return issuer.Meta{Profiles: map[string]string{"short": ""}}, f.err
}

// rig is a relay with a failing CA and a client with one account.
type rig struct {
	*Relay
	st  *store.Store
	ca  *fakeCA
	now time.Time
	req acmeserver.IssueRequest
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), ca: &fakeCA{}}
	now := func() time.Time { return r.now }
	st, err := store.Open(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "acmeproxy.db"), Now: now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	r.st = st
	r.Relay = New(Config{
		Store: st, Audit: audit.New(audit.Config{Store: st, Logger: slog.New(slog.DiscardHandler), Now: now}),
		CA: func() (CA, func()) { return r.ca, func() {} }, Logger: slog.New(slog.DiscardHandler), Now: now,
	})
	c, err := st.CreateClient(t.Context(), clients.Client{Name: "web1", Grants: []clients.Grant{
		{Names: []string{"a.example.com"}, Modes: []clients.Mode{clients.ModeACME}, DailyQuota: 1},
	}}, clients.Credential{Kind: clients.ACMEBinding, Verifier: []byte("v")})
	if err != nil {
		t.Fatal(err)
	}
	credentials, err := st.Credentials(t.Context(), c.ID)
	if err != nil {
		t.Fatal(err)
	}
	key, err := cert.GenerateKey(cert.EC256)
	if err != nil {
		t.Fatal(err)
	}
	der, err := cert.NewCSR(key, cert.Names{"a.example.com"})
	if err != nil {
		t.Fatal(err)
	}
	csr, err := cert.ParseCSR(der)
	if err != nil {
		t.Fatal(err)
	}
	r.req = acmeserver.IssueRequest{
		Order:   acmeserver.Order{ID: "o1", Share: "s", CreatedAt: r.now},
		Account: acmeserver.Account{Owner: c.ID + "." + credentials[0].ID}, CSR: csr,
	}
	return r
}

// advance moves the clock. It first waits for entries of the audit trail, which read it.
func (r *rig) advance(d time.Duration) {
	r.recording.Wait()
	r.now = r.now.Add(d)
}

// A failure at the CA ends the client's order, delays it, or is tried again, by what it
// means. A quota counts an order once, however often it is tried, and not at all if it
// came to none at the CA (X5, X20).
func TestFailures(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	issue := func(err error) error {
		r.ca.err = err
		_, err = r.Issue(t.Context(), r.req)
		return err
	}
	var later *acmeserver.Later
	for range 3 { // a CA that is away
		if err := issue(&acme.Error{Kind: acme.Temporary, Detail: "connection refused", Err: errors.New("dial 10.0.0.1")}); err == nil || errors.As(err, new(*acme.Problem)) || errors.As(err, &later) {
			t.Fatalf("away: %v", err)
		}
	}
	failures := func() (n int) {
		t.Helper()
		r.recording.Wait()
		page, err := r.st.Audit(t.Context(), trail.Query{})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page {
			if e.Action == "certificate" && e.Outcome == trail.Failed && e.ClientName == "web1" && len(e.Names) == 1 {
				n++
			}
		}
		return n
	}
	if err := issue(&acme.Error{Kind: acme.RateLimited, Detail: "busy", RetryAt: r.now.Add(time.Minute)}); !errors.As(err, &later) || later.After != time.Minute {
		t.Errorf("busy for a minute: %v", err)
	}
	if err := issue(&acme.Error{Kind: acme.RateLimited, Detail: "busy", RetryAt: r.now.Add(-time.Second)}); !errors.As(err, &later) || later.After != 5*time.Second {
		t.Errorf("busy until a moment ago: %v", err)
	}
	if err := issue(&acme.Error{Kind: acme.Temporary, Detail: "maintenance", RetryAt: r.now.Add(time.Hour)}); !errors.As(err, &later) || later.After != 5*time.Minute {
		t.Errorf("maintenance: %v", err)
	}
	if n := failures(); n != 1 {
		t.Errorf("%d entries about one order that waits", n)
	}
	r.advance(16 * time.Minute)
	problem := func(err error, kind string, texts ...string) {
		t.Helper()
		var p *acme.Problem
		if !errors.As(err, &p) || p.Type != kind {
			t.Fatalf("%v, want %s", err, kind)
		}
		for _, text := range texts {
			if !strings.Contains(p.Detail, text) {
				t.Errorf("%q has no %q", p.Detail, text)
			}
		}
	}
	err := issue(&acme.Error{Kind: acme.Temporary, Detail: "connection refused", Err: errors.New("dial 10.0.0.1")})
	problem(err, acme.ServerInternal, "could not be used for 15m", acme.Hidden)
	if strings.Contains(err.Error(), "10.0.0.1") {
		t.Errorf("the client reads %v", err)
	}
	// An order that the CA never finishes must not block its names for long.
	r.req.Order.CreatedAt, r.req.Order.State = r.now, state{Order: "https://ca.example.com/order/1"}.encode()
	unfinished := &acme.Error{Kind: acme.Temporary, Op: "wait for the certificate", Detail: "the order is still processing", Ordered: true}
	r.advance(time.Hour)
	if err := issue(unfinished); err == nil || errors.As(err, new(*acme.Problem)) {
		t.Errorf("unfinished for an hour: %v", err)
	}
	r.advance(time.Second)
	problem(issue(unfinished), acme.ServerInternal, "did not finish the order for 1h", "order again")
	r.req.Order.CreatedAt, r.req.Order.State = r.now, nil
	problem(issue(&acme.Error{Kind: acme.RateLimited, Type: acme.RateLimit, Detail: "too many", RetryAt: r.now.Add(time.Hour)}), acme.RateLimit, "too many; the CA asks to wait until ")
	problem(r.limited.refuse("s", r.now.Add(59*time.Minute)), acme.RateLimit, "too many")
	if err := r.limited.refuse("s", r.now.Add(time.Hour)); err != nil {
		t.Errorf("after the limit: %v", err)
	}
	r.req.Order.Share = "other names"
	problem(issue(&acme.Error{Kind: acme.Permanent, Type: acme.DNS, Detail: "no records", Identifier: "a.example.com", Ordered: true, Final: true}), acme.DNS, "a.example.com: no records")
	// That one was ordered, so the quota of one is used up.
	problem(issue(nil), acme.RateLimit, "daily quota of 1 requests is used up")
	orders := r.ca.orders
	if _, err := r.Issue(t.Context(), r.req); err == nil || r.ca.orders != orders {
		t.Errorf("beyond the quota: %v, %d orders", err, r.ca.orders-orders)
	}
	if err := r.st.SetClientDisabled(t.Context(), strings.Split(r.req.Account.Owner, ".")[0], true); err != nil {
		t.Fatal(err)
	}
	problem(issue(nil), acme.Unauthorized, "disabled")
}

// Orders over the client's own pace are tried again after some time, and not all at the
// same moment (X5).
func TestPace(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	id, err := r.caller(t.Context(), r.req.Account, nil)
	if err != nil {
		t.Fatal(err)
	}
	for r.cfg.Audit.Pace(id) == nil { // use up the burst
	}
	waits := map[time.Duration]bool{}
	for range 10 {
		_, err := r.Issue(t.Context(), r.req)
		var later *acmeserver.Later
		if !errors.As(err, &later) || later.After < leastPace || later.After > leastPace+spreadPace {
			t.Fatalf("over the pace: %v", err)
		}
		waits[later.After] = true
	}
	if len(waits) == 1 || r.ca.orders != 0 {
		t.Errorf("waits %v, %d orders", waits, r.ca.orders)
	}
}

// A CA that is away delays no directory for long, and is asked again later.
func TestMetaOfACAThatIsAway(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.ca.err = errors.New("away")
	for range 3 {
		if meta := r.Meta(t.Context()); meta.Profiles != nil || meta.RetryAfter != metaPause {
			t.Errorf("%+v", meta)
		}
	}
	if r.ca.orders != 1 {
		t.Errorf("%d questions", r.ca.orders)
	}
	r.ca.err = nil
	r.advance(metaPause)
	for range 3 {
		if meta := r.Meta(t.Context()); len(meta.Profiles) != 1 || meta.RetryAfter != 0 {
			t.Errorf("%+v", meta)
		}
	}
	r.ca.err = errors.New("away")
	r.advance(metaLife)
	if meta := r.Meta(t.Context()); len(meta.Profiles) != 1 || meta.RetryAfter != 0 || r.ca.orders != 3 {
		t.Errorf("what was known is forgotten: %+v, %d questions", meta, r.ca.orders)
	}
}
