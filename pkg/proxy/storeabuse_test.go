package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/internal/pgtest"
	"github.com/acmeproxy/acmeproxy/internal/watch"
	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/frontend/admin"
	"github.com/acmeproxy/acmeproxy/pkg/proxy"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
)

// abuser is a client that may have all names below example.com.
func abuser(t *testing.T, change func(*proxy.Config)) (*proxytest.Proxy, *proxytest.Caller) {
	t.Helper()
	p := proxytest.Start(t, proxytest.Options{Change: change})
	_, recipient := proxytest.NewIdentity(t)
	return p, p.NewCaller(t, "web1", []string{recipient}, proxytest.Grant(clients.ModeAgent, "**.example.com"))
}

// However a client asks again for the same names, the CA sees two orders an hour
// (X5, X42).
func TestOrdersForOneName(t *testing.T) {
	t.Parallel()
	const rounds = 30
	keyTypes := []string{"ec256", "ec384"}
	for name, again := range map[string]func(t *testing.T, c *proxytest.Caller, id string, i int) (next string){
		"DELETE and POST": func(t *testing.T, c *proxytest.Caller, id string, _ int) string {
			c.Do(t, http.MethodDelete, api.PathCertificates+"/"+id, nil)
			return c.Register(t, "a.example.com", "b.example.com").ID
		},
		"DELETE and POST with the names turned round": func(t *testing.T, c *proxytest.Caller, id string, _ int) string {
			c.Do(t, http.MethodDelete, api.PathCertificates+"/"+id, nil)
			return c.Register(t, "b.example.com", "a.example.com").ID
		},
		"two key types": func(t *testing.T, c *proxytest.Caller, _ string, i int) string {
			return c.Registered(t, api.CertificateRequest{Mode: clients.ModeAgent, Names: []string{"a.example.com", "b.example.com"}, KeyType: keyTypes[i%2]}).ID
		},
		"DELETE, POST and renew": func(t *testing.T, c *proxytest.Caller, id string, _ int) string {
			c.Do(t, http.MethodDelete, api.PathCertificates+"/"+id, nil)
			m := c.Register(t, "a.example.com", "b.example.com")
			c.Do(t, http.MethodPost, api.PathCertificates+"/"+m.ID+"/renew", nil)
			return m.ID
		},
		"renew and two key types": func(t *testing.T, c *proxytest.Caller, id string, i int) string {
			c.Do(t, http.MethodPost, api.PathCertificates+"/"+id+"/renew", nil)
			return c.Registered(t, api.CertificateRequest{Mode: clients.ModeAgent, Names: []string{"a.example.com", "b.example.com"}, KeyType: keyTypes[i%2]}).ID
		},
		"revoke and POST": func(t *testing.T, c *proxytest.Caller, id string, _ int) string {
			c.Do(t, http.MethodDelete, api.PathCertificates+"/"+id+"?revoke=true", nil)
			return c.Register(t, "a.example.com", "b.example.com").ID
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, c := abuser(t, func(cfg *proxy.Config) { cfg.DefaultDailyQuota = "0" })
			m := c.Register(t, "a.example.com", "b.example.com")
			c.Bundle(t, m.ID, "")
			id := m.ID
			for i := range rounds {
				id = again(t, c, id, i+1)
				p.Tick(t)
			}
			if n := p.CA.Requests().Count(pebbletest.NewOrder); n > 2 {
				t.Errorf("%d orders in %d rounds, want 2 at most", n, rounds)
			} else {
				t.Logf("%d orders in %d rounds", n, rounds)
			}
		})
	}
}

// The pause after a failure outlives the row that failed (X5).
func TestPauseAfterFailure(t *testing.T) {
	t.Parallel()
	var clk proxytest.Clock
	var ca pebbletest.Fault
	p := proxytest.Start(t, proxytest.Options{Change: clk.On(), Pebble: pebbletest.Options{Wrap: ca.Wrap}})
	_, recipient := proxytest.NewIdentity(t)
	c := p.NewCaller(t, "web1", []string{recipient}, proxytest.Grant(clients.ModeAgent, "**.example.com"))
	ca.Fail(http.StatusServiceUnavailable)
	m := c.Register(t, "a.example.com")
	watch.Until(t, "an attempt failed", func() bool { return c.Certificate(t, m.ID).Failures > 0 })
	for i := range 10 {
		c.Do(t, http.MethodDelete, api.PathCertificates+"/"+m.ID, nil)
		m = c.Registered(t, api.CertificateRequest{Mode: clients.ModeAgent, Names: m.Names, KeyType: []string{"ec384", "ec256"}[i%2]})
		if m.Failures == 0 || m.LastError == "" || m.NextAttempt == nil || !m.NextAttempt.After(clk.Now()) {
			t.Fatalf("round %d: %+v begins without its pause", i, m)
		}
	}
	ca.Mend()
	clk.Advance(2 * time.Hour)
	p.Tick(t)
	watch.Until(t, "the certificate after the pause", func() bool { // the proxy's own loop may have it
		m = c.Certificate(t, m.ID)
		return m.Status == api.StatusValid && m.Failures == 0
	})
}

// In a new database a client without a quota of its own has one (X20), which
// the proxy's renewals do not count against.
func TestDefaultQuota(t *testing.T) {
	t.Parallel()
	var clk proxytest.Clock
	on := clk.On()
	p, c := abuser(t, func(cfg *proxy.Config) { on(cfg); cfg.DefaultDailyQuota = "3" })
	var m api.Certificate
	for i := range 3 {
		m = c.Register(t, fmt.Sprintf("n%d.example.com", i))
		c.Bundle(t, m.ID, "")
	}
	r := c.Do(t, http.MethodPost, api.PathCertificates, api.CertificateRequest{Mode: clients.ModeAgent, Names: []string{"n3.example.com"}})
	if r.Status != http.StatusTooManyRequests || r.Header.Get("Retry-After") == "" {
		t.Errorf("the fourth: %d %s, want 429", r.Status, r.Body)
	}
	clk.Advance(61 * 24 * time.Hour)
	p.Tick(t) // the proxy's own loop may have taken some of them
	watch.Until(t, "there are 3 renewals", func() bool { return p.CA.Requests().Count(pebbletest.NewOrder) >= 6 })
	if n := p.CA.Requests().Count(pebbletest.NewOrder); n != 6 {
		t.Errorf("%d orders, want 3 and 3 renewals", n)
	}
	for i := range 3 {
		c.Register(t, fmt.Sprintf("m%d.example.com", i)) // renewals took nothing
	}
}

// X20: a request that came to no order does not count, or a CA that is down would
// use up what a client may have in a day.
func TestQuotaOfAnUnreachableCA(t *testing.T) {
	t.Parallel()
	var ca pebbletest.Fault
	p := proxytest.Start(t, proxytest.Options{Pebble: pebbletest.Options{Wrap: ca.Wrap}})
	_, recipient := proxytest.NewIdentity(t)
	grant := proxytest.Grant(clients.ModeGateway, "*.example.com")
	grant.DailyQuota = 1
	c := p.NewCaller(t, "web1", []string{recipient}, grant)
	ask := func() string {
		return string(c.Do(t, http.MethodPost, api.PathCertificates,
			api.CertificateRequest{Mode: clients.ModeGateway, Names: []string{"a.example.com"}}).Body)
	}
	ca.Fail(http.StatusServiceUnavailable)
	for range 2 {
		if answer := ask(); strings.Contains(answer, "quota") || strings.Contains(answer, api.EventCertificate) {
			t.Errorf("the CA is down: %s", answer)
		}
	}
	ca.Mend()
	if answer := ask(); !strings.Contains(answer, `"event":"`+api.EventCertificate) {
		t.Errorf("the CA is well: %s", answer)
	}
	if answer := ask(); !strings.Contains(answer, "quota") {
		t.Errorf("the second order: %s", answer)
	}
}

// A client has a limit of managed certificates; those that it has are renewed
// whatever the limit is (X42).
func TestCertificatesOfOneClient(t *testing.T) {
	t.Parallel()
	p, c := abuser(t, nil)
	var have []api.Certificate
	for i := range 3 {
		have = append(have, c.Register(t, fmt.Sprintf("n%d.example.com", i)))
	}
	p.Restart(t, func(cfg *proxy.Config) { cfg.MaxClientCertificates = 2 })
	r := c.Do(t, http.MethodPost, api.PathCertificates, api.CertificateRequest{Mode: clients.ModeAgent, Names: []string{"more.example.com"}})
	if d := r.Problem(t).Detail; r.Status != http.StatusForbidden || !strings.Contains(d, "2") || !strings.Contains(d, "delete some") {
		t.Errorf("one more: %d %s", r.Status, r.Body)
	}
	page, err := p.Admin.Audit(t.Context(), admin.AuditQuery{Client: "web1", Outcome: "refused"})
	if err != nil || len(page.Entries) != 1 || !slices.Equal(page.Entries[0].Names, []string{"more.example.com"}) {
		t.Errorf("audit: %+v, %v", page.Entries, err)
	}
	for _, m := range have {
		if again := c.Register(t, m.Names...); again.ID != m.ID {
			t.Errorf("%v is another certificate now", m.Names)
		}
		c.Bundle(t, m.ID, "")
	}
	c.Do(t, http.MethodDelete, api.PathCertificates+"/"+have[0].ID, nil)
	c.Do(t, http.MethodDelete, api.PathCertificates+"/"+have[1].ID, nil)
	c.Register(t, "more.example.com")
}

// A name passes on when its client may not have it any more, and to nobody else
// (A24).
func TestNamesPassOn(t *testing.T) {
	t.Parallel()
	for how, lose := range map[string]func(t *testing.T, p *proxytest.Proxy, id string) error{
		"disabled": func(t *testing.T, p *proxytest.Proxy, _ string) error {
			_, err := p.Admin.SetDisabled(t.Context(), "old", true)
			return err
		},
		"no grant": func(t *testing.T, p *proxytest.Proxy, _ string) error {
			_, err := p.Admin.Apply(t.Context(), admin.ApplyRequest{Clients: []admin.ClientSpec{
				{Name: "old", Grants: []clients.Grant{proxytest.Grant(clients.ModeAgent, "other.example.com")}},
			}})
			return err
		},
		"another mode": func(t *testing.T, p *proxytest.Proxy, _ string) error {
			_, err := p.Admin.Apply(t.Context(), admin.ApplyRequest{Clients: []admin.ClientSpec{
				{Name: "old", Grants: []clients.Grant{proxytest.Grant(clients.ModeGateway, "**.example.com")}},
			}})
			return err
		},
		"forgotten": func(t *testing.T, p *proxytest.Proxy, id string) error {
			_, err := p.Admin.ForgetCertificate(t.Context(), id)
			return err
		},
		"removed": func(t *testing.T, p *proxytest.Proxy, _ string) error {
			_, err := p.Admin.RemoveClient(t.Context(), "old")
			return err
		},
	} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			p := proxytest.Start(t, proxytest.Options{})
			_, recipient := proxytest.NewIdentity(t)
			old := p.NewCaller(t, "old", []string{recipient}, proxytest.Grant(clients.ModeAgent, "**.example.com"))
			heir := p.NewCaller(t, "heir", []string{recipient}, proxytest.Grant(clients.ModeAgent, "a.example.com", "c.example.com"))
			m := old.Register(t, "a.example.com", "b.example.com")
			old.Bundle(t, m.ID, "")
			ask := api.CertificateRequest{Mode: clients.ModeAgent, Names: []string{"a.example.com", "c.example.com"}}
			if r := heir.Do(t, http.MethodPost, api.PathCertificates, ask); r.Status != http.StatusConflict {
				t.Fatalf("a name that is held: %d %s", r.Status, r.Body)
			}
			if err := lose(t, p, m.ID); err != nil {
				t.Fatal(err)
			}
			got := heir.Registered(t, ask)
			heir.Bundle(t, got.ID, "")
			if how == "forgotten" || how == "removed" {
				return // nothing of the old row is there
			}
			list, err := p.Admin.Certificates(t.Context(), "old")
			if err != nil || len(list) != 1 || list[0].SupersededAt.IsZero() || !list[0].NextAttempt.IsZero() || list[0].Client != "old" {
				t.Errorf("the old row: %+v, %v", list, err)
			}
			page, err := p.Admin.Audit(t.Context(), admin.AuditQuery{Client: "old", Outcome: "done"})
			if err != nil || !slices.ContainsFunc(page.Entries, func(e admin.AuditEntry) bool {
				return e.Action == "certificate superseded" && strings.Contains(e.Detail, `a.example.com passed to client "heir"`)
			}) {
				t.Errorf("audit: %+v, %v", page.Entries, err)
			}
			if how == "disabled" {
				return
			}
			if r := old.Do(t, http.MethodGet, api.PathCertificates+"/"+m.ID+"/bundle", nil); r.Status != http.StatusNotFound {
				t.Errorf("the old bundle: %d", r.Status)
			}
			if s := old.Certificate(t, m.ID).Status; s != api.StatusSuperseded {
				t.Errorf("the old status: %s", s)
			}
			if r := old.Do(t, http.MethodPost, api.PathCertificates+"/"+m.ID+"/renew", nil); r.Status != http.StatusForbidden {
				t.Errorf("renew the old one: %d %s", r.Status, r.Body)
			}
		})
	}
}

// A client that lost one name of a certificate keeps the others, for as long as it
// is granted them.
func TestNamesThatStay(t *testing.T) {
	t.Parallel()
	p := proxytest.Start(t, proxytest.Options{})
	_, recipient := proxytest.NewIdentity(t)
	old := p.NewCaller(t, "old", []string{recipient}, proxytest.Grant(clients.ModeAgent, "a.example.com", "b.example.com"))
	heir := p.NewCaller(t, "heir", []string{recipient}, proxytest.Grant(clients.ModeAgent, "*.example.com"))
	m := old.Register(t, "a.example.com", "b.example.com")
	grant := func(names ...string) {
		if _, err := p.Admin.Apply(t.Context(), admin.ApplyRequest{Clients: []admin.ClientSpec{
			{Name: "old", Grants: []clients.Grant{proxytest.Grant(clients.ModeAgent, names...)}},
		}}); err != nil {
			t.Fatal(err)
		}
	}
	ask := func(c *proxytest.Caller, name string, want int) {
		t.Helper()
		r := c.Do(t, http.MethodPost, api.PathCertificates, api.CertificateRequest{Mode: clients.ModeAgent, Names: []string{name}})
		if r.Status != want {
			t.Errorf("%s: %d %s, want %d", name, r.Status, r.Body, want)
		}
	}
	grant("b.example.com")
	ask(heir, "a.example.com", http.StatusAccepted)
	ask(heir, "b.example.com", http.StatusConflict)
	if r := old.Do(t, http.MethodDelete, api.PathCertificates+"/"+m.ID, nil); r.Status != http.StatusNoContent {
		t.Errorf("delete the superseded one: %d %s", r.Status, r.Body)
	}
	ask(heir, "b.example.com", http.StatusAccepted) // given up
	ask(old, "a.example.com", http.StatusForbidden)
}

// The administrator can forget what clients have, and not what this host itself
// is configured to have.
func TestForgetCertificate(t *testing.T) {
	t.Parallel()
	p, c := abuser(t, func(cfg *proxy.Config) { cfg.Domains = []string{"own.example.com"} })
	m := c.Register(t, "a.example.com")
	all, err := p.Admin.Certificates(t.Context(), "")
	if err != nil || len(all) != 2 {
		t.Fatalf("%+v, %v", all, err)
	}
	for _, row := range all {
		_, err := p.Admin.ForgetCertificate(t.Context(), row.ID)
		if own := row.Client == ""; own {
			proxytest.WantStatus(t, "this host's own", err, http.StatusConflict)
		} else if err != nil || row.ID != m.ID {
			t.Errorf("forget %+v: %v", row, err)
		}
	}
	_, err = p.Admin.ForgetCertificate(t.Context(), m.ID)
	proxytest.WantStatus(t, "forgotten already", err, http.StatusNotFound)
	_, err = p.Admin.Certificates(t.Context(), "nobody")
	proxytest.WantStatus(t, "no such client", err, http.StatusNotFound)
	page, err := p.Admin.Audit(t.Context(), admin.AuditQuery{Client: "web1", Outcome: "done"})
	if err != nil || page.Entries[0].Action != "certificate forget" {
		t.Errorf("audit: %+v, %v", page.Entries, err)
	}
}

// Who waits for a certificate hears at once that it was forgotten.
func TestForgetWakesLongPolls(t *testing.T) {
	t.Parallel()
	p, c := abuser(t, nil)
	m := c.Register(t, "a.example.com")
	etag := c.Bundle(t, m.ID, "").ETag()
	poll := func(wait string) (proxytest.Reply, error) {
		return c.Try(t, http.MethodGet, api.PathCertificates+"/"+m.ID+"/bundle?wait="+wait, nil, "If-None-Match", etag)
	}
	ended := make(chan error, 128) // as many as one client may have
	for range cap(ended) {
		go func() {
			for {
				r, err := poll("60s")
				switch {
				case err == nil && r.Status == http.StatusTooManyRequests: // the probe below has taken the last place
					continue
				case err == nil && r.Status != http.StatusNotFound:
					err = fmt.Errorf("a long poll ended with %d %s", r.Status, r.Body)
				}
				ended <- err
				return
			}
		}()
	}
	watch.Until(t, "all long polls wait", func() bool {
		r, err := poll("10ms")
		return err == nil && r.Status == http.StatusTooManyRequests
	})
	began := time.Now()
	if _, err := p.Admin.ForgetCertificate(t.Context(), m.ID); err != nil {
		t.Fatal(err)
	}
	for range cap(ended) {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("the long polls ended after %v", took)
	}
}

// What is no text is refused at every door, with either database (C12).
func TestNotText(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(t *testing.T) func(*proxy.Config){
		"SQLite": func(*testing.T) func(*proxy.Config) { return nil },
		"PostgreSQL": func(t *testing.T) func(*proxy.Config) {
			url := pgtest.Start(t).Database(t)
			return func(cfg *proxy.Config) { cfg.Store = url }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, c := abuser(t, change(t))
			for _, bad := range []string{"%00", "x%00y", "%ff", "%c3%28", "%ed%a0%80"} {
				for _, request := range []string{
					"GET " + api.PathCertificates + "/" + bad, "DELETE " + api.PathCertificates + "/" + bad,
					"GET " + api.PathCertificates + "/" + bad + "/bundle", "POST " + api.PathCertificates + "/" + bad + "/renew",
					"GET " + api.PathCertificates + "?after=" + bad, "DELETE " + api.PathCertificates + "/x?reason=" + bad,
					"GET /" + bad, "GET " + api.PathHealth + "?" + bad + "=" + bad,
				} {
					method, path, _ := strings.Cut(request, " ")
					if r := c.Do(t, method, path, nil); r.Status < 400 && !strings.HasPrefix(path, api.PathHealth) || r.Status >= 500 {
						t.Errorf("%s: %d %s", request, r.Status, r.Body)
					}
				}
				text, err := url.PathUnescape(bad)
				if err != nil {
					t.Fatal(err)
				}
				for door, call := range map[string]func(ctx context.Context) error{
					"show client":   func(ctx context.Context) error { _, err := p.Admin.Client(ctx, text); return err },
					"remove client": func(ctx context.Context) error { _, err := p.Admin.RemoveClient(ctx, text); return err },
					"disable":       func(ctx context.Context) error { _, err := p.Admin.SetDisabled(ctx, text, true); return err },
					"token":         func(ctx context.Context) error { _, err := p.Admin.NewToken(ctx, text, admin.NewToken{}); return err },
					"audit": func(ctx context.Context) error {
						_, err := p.Admin.Audit(ctx, admin.AuditQuery{Client: text})
						return err
					},
					"certs list":   func(ctx context.Context) error { _, err := p.Admin.Certificates(ctx, text); return err },
					"certs forget": func(ctx context.Context) error { _, err := p.Admin.ForgetCertificate(ctx, text); return err },
					"add client": func(ctx context.Context) error {
						_, err := p.Admin.AddClient(ctx, admin.NewClient{Name: text, Grants: []clients.Grant{proxytest.Grant(clients.ModeAgent, text)}})
						return err
					},
				} {
					err := call(t.Context())
					var problem *api.Problem
					if !errors.As(err, &problem) || problem.Status < 400 || problem.Status >= 500 {
						t.Errorf("%s of %q: %v", door, text, err)
					}
				}
				r := c.Do(t, http.MethodPost, api.PathCertificates, api.CertificateRequest{Mode: clients.ModeAgent, Names: []string{text + ".example.com"}, Profile: text, KeyType: text})
				if r.Status < 400 || r.Status >= 500 {
					t.Errorf("a request for %q: %d %s", text, r.Status, r.Body)
				}
			}
			m := c.Register(t, "a.example.com")
			for _, header := range []string{"If-None-Match", "User-Agent", "Accept"} {
				if r := c.Do(t, http.MethodGet, api.PathCertificates+"/"+m.ID, nil, header, "\xff\xfe"); r.Status != http.StatusOK {
					t.Errorf("header %s: %d %s", header, r.Status, r.Body)
				}
			}
			if strings.Contains(p.Log(), "request failed") {
				t.Error("a request failed")
			}
		})
	}
}
