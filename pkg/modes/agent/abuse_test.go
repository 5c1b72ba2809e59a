package agent_test

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/internal/watch"
	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/frontend/admin"
	"github.com/acmeproxy/acmeproxy/pkg/proxy"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
)

// A client that requests the same names again in any form causes at most two orders an
// hour (X5, X42).
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
			p, c := proxytest.StartAgent(t, func(cfg *proxy.Config) { cfg.DefaultDailyQuota = "0" })
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

// The attempts that a client may cause while its names fail outlive the row that
// failed. The proxy's own next attempt does not depend on them (X5, X44).
func TestTriesAfterFailure(t *testing.T) {
	t.Parallel()
	var clk proxytest.Clock
	var ca pebbletest.Fault
	p := proxytest.Start(t, proxytest.Options{Change: clk.On(), Pebble: pebbletest.Options{Wrap: ca.Wrap}})
	_, recipient := proxytest.NewIdentity(t)
	c := p.NewCaller(t, "web1", []string{recipient}, proxytest.Grant(clients.ModeAgent, "**.example.com"))
	ca.Set(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if pebbletest.Kind(r) != pebbletest.NewOrder {
			next.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusBadRequest)
		io.WriteString(w, `{"type": "urn:ietf:params:acme:error:rejectedIdentifier", "detail": "no"}`)
	})
	m := c.Register(t, "a.example.com")
	failed := func(n int) {
		t.Helper()
		watch.Until(t, "an attempt failed", func() bool {
			m = c.Certificate(t, m.ID)
			return strings.Count(p.Log(), "no certificate yet") == n && !m.Attempting
		})
	}
	failed(1)
	planned := *m.NextAttempt
	for i := range 10 {
		c.Do(t, http.MethodDelete, api.PathCertificates+"/"+m.ID, nil)
		m = c.Registered(t, api.CertificateRequest{Mode: clients.ModeAgent, Names: m.Names, KeyType: []string{"ec384", "ec256"}[i%2]})
		failed(min(i+2, 5))
	}
	if m.LastError == "" || m.NextAttempt == nil || !m.NextAttempt.Equal(planned) || m.Failures != 1 {
		t.Errorf("after ten requests: %+v", m)
	}
	r := c.Do(t, http.MethodPost, api.PathCertificates+"/"+m.ID+"/renew", nil)
	if d := r.Problem(t).Detail; r.Status != http.StatusTooManyRequests || !strings.Contains(d, "4 attempts were requested within an hour and failed; try again after 2") {
		t.Errorf("the fifth request: %d %s", r.Status, r.Body)
	}
	ca.PassAll()
	clk.Advance(2 * time.Hour)
	p.Tick(t)
	watch.Until(t, "the certificate after the pause", func() bool { // the proxy's own loop may have claimed it
		m = c.Certificate(t, m.ID)
		return m.Status == api.StatusValid && m.Failures == 0
	})
}

// A client has a limit of managed certificates. Its existing ones are renewed at any
// limit (X42).
func TestCertificatesOfOneClient(t *testing.T) {
	t.Parallel()
	p, c := proxytest.StartAgent(t, nil)
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

// A name passes to another client only when its owner may not have it any more (A24).
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
				return // the old row is gone
			}
			list, err := p.Admin.Certificates(t.Context(), admin.CertificateQuery{Client: "old"})
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
