package audit_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/auth"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
)

// Every kind of refusal is in the audit trail once, with who and from where,
// and without the credential; the source network counts (X14, A22).
func TestRefusalsAreAudited(t *testing.T) {
	t.Parallel()
	p := proxytest.Start(t, proxytest.Options{})
	_, recipient := proxytest.NewIdentity(t)
	elsewhere := proxytest.Grant(clients.ModeAgent, "far.example.com")
	elsewhere.Networks = []string{"192.0.2.0/24", "2001:db8::/32"}
	here := proxytest.Grant(clients.ModeAgent, "near.example.com")
	here.Networks = []string{"127.0.0.0/8"}
	rsa := proxytest.Grant(clients.ModeAgent, "rsa.example.com")
	rsa.KeyTypes = []string{"rsa2048"}
	c := p.NewCaller(t, "web1", []string{recipient}, elsewhere, here, rsa)
	stranger, _ := auth.NewBearer()
	ask := func(req api.CertificateRequest) func(*proxytest.Caller) proxytest.Reply {
		return func(c *proxytest.Caller) proxytest.Reply { return c.Do(t, http.MethodPost, api.PathCertificates, req) }
	}
	agent := func(names ...string) func(*proxytest.Caller) proxytest.Reply {
		return ask(api.CertificateRequest{Mode: clients.ModeAgent, Names: names})
	}
	if r := agent("near.example.com")(c); r.Status != http.StatusAccepted {
		t.Errorf("from the granted network: %d %s", r.Status, r.Body)
	}
	anonymous := p.WithToken(t, "")
	for _, refusal := range []struct {
		what   string
		from   *proxytest.Caller
		do     func(*proxytest.Caller) proxytest.Reply
		status int
		client string
		detail string
	}{
		{"no credential", anonymous, agent("near.example.com"), http.StatusUnauthorized, "", "no credential"},
		{"an unknown token", p.WithToken(t, stranger), agent("near.example.com"), http.StatusUnauthorized, "", "unknown"},
		{"a malformed token", p.WithToken(t, "apt1-nonsense"), agent("near.example.com"), http.StatusUnauthorized, "", "malformed"},
		{"a token and a half", p.WithToken(t, c.Token+"x"), agent("near.example.com"), http.StatusUnauthorized, "", "malformed"},
		{"a name", c, agent("b.example.org"), http.StatusForbidden, "web1", "b.example.org"},
		{"one name of two", c, agent("near.example.com", "b.example.org"), http.StatusForbidden, "web1", "b.example.org"},
		{"two grants that do not add up", c, agent("near.example.com", "rsa.example.com"), http.StatusForbidden, "web1", ""},
		{"the mode", c, ask(api.CertificateRequest{Mode: clients.ModeGateway, Names: []string{"near.example.com"}}), http.StatusForbidden, "web1", ""},
		{"the key type", c, agent("rsa.example.com"), http.StatusForbidden, "web1", ""},
		{"the network", c, agent("far.example.com"), http.StatusForbidden, "web1", ""},
	} {
		before := len(p.Refusals(t))
		r := refusal.do(refusal.from)
		if r.Status != refusal.status {
			t.Errorf("%s: %d %s, want %d", refusal.what, r.Status, r.Body, refusal.status)
		}
		r.Problem(t)
		entries := p.Refusals(t)
		if len(entries) != before+1 {
			t.Errorf("%s: %d new entries in the audit trail, want 1", refusal.what, len(entries)-before)
			continue
		}
		e := entries[len(entries)-1]
		if e.Client != refusal.client || e.Addr != "127.0.0.1" || !strings.Contains(e.Detail, refusal.detail) || e.Detail == "" {
			t.Errorf("%s: entry %+v", refusal.what, e)
		}
	}
	p.Tick(t)
	if n := p.CA.Requests().Count(pebbletest.NewOrder); n != 1 {
		t.Errorf("%d orders, want 1", n)
	}
	secrets := proxytest.Traces{"token": []byte(c.Token), "unknown token": []byte(stranger)}
	for _, found := range secrets.In(p.Everything(t)) {
		t.Error(found)
	}
}
