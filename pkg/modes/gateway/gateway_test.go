package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/internal/watch"
	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/cert/certfile"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/frontend/admin"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
)

// A gateway issuance, with a CSR or without, leaves no name, token, key
// authorization, URL, serial or key. The test searches files, tables, WAL and the
// debug log, while the proxy runs and after (A14). The same search finds the traces of
// an agent's issuance.
func TestGatewayKeepsNothing(t *testing.T) {
	t.Parallel()
	seen := proxytest.NewWitness()
	p := proxytest.Start(t, proxytest.Options{Pebble: pebbletest.Options{Wrap: seen.Wrap}})
	seen.Watch(t, p)
	host := p.Enroll(t, "corp", proxytest.Grant(clients.ModeGateway, "**.corp.example.com"))
	k, err := proxytest.Get(t, host, clients.ModeGateway, "payroll.corp.example.com", "wages.hr.corp.example.com")
	if err != nil {
		t.Fatal(err)
	}
	withCSR, err := certfile.Read(k.Out)
	if err != nil {
		t.Fatal(err)
	}
	id, recipient := proxytest.NewIdentity(t)
	script := p.NewCaller(t, "script", []string{recipient}, proxytest.Grant(clients.ModeGateway, "**.corp.example.com"))
	events := script.Gateway(t, api.CertificateRequest{Names: []string{"merger.corp.example.com"}})
	withoutCSR := proxytest.OpenBundle(t, events[len(events)-1].Bundle, proxytest.Names(t, "merger.corp.example.com"), id)
	if withoutCSR.Key == nil {
		t.Fatal("the proxy made no key")
	}
	secrets := seen.Traces(t)
	for _, name := range []string{"payroll", "wages", "merger"} {
		secrets.Add("name "+name, name)
	}
	secrets.Certificate(t, "with CSR", withCSR)
	secrets.Certificate(t, "without CSR", withoutCSR)

	agentID, recipient := proxytest.NewIdentity(t)
	agent := p.NewCaller(t, "agent", []string{recipient}, proxytest.Grant(clients.ModeAgent, "*.example.com"))
	m := agent.Register(t, "public.example.com")
	managed := proxytest.OpenBundle(t, agent.Bundle(t, m.ID, "").Body, proxytest.Names(t, "public.example.com"), agentID)
	control := proxytest.Traces{}
	control.Add("name", "public.example.com")
	control.Add("serial", managed.Serial())

	for _, when := range []string{"running", "stopped"} {
		if when == "stopped" {
			p.Stop(t)
		}
		files := p.Everything(t)
		for _, found := range secrets.In(files) {
			t.Errorf("%s: %s", when, found)
		}
		for _, want := range []string{"name in log", "serial in log", "name in acmeproxy.db", "serial in acmeproxy.db"} {
			found := control.In(files)
			if !slices.ContainsFunc(found, func(f string) bool { return strings.HasPrefix(f, want) }) {
				t.Errorf("%s: the search does not find the agent's %s, but %v", when, want, found)
			}
		}
	}
}

// The proxy never renews a certificate of the gateway, even after years (A15).
func TestGatewayRenewsNothing(t *testing.T) {
	t.Parallel()
	var clk proxytest.Clock
	p := proxytest.Start(t, proxytest.Options{Change: clk.On()})
	host := p.Enroll(t, "web1", proxytest.Grant(clients.ModeGateway, "*.example.com"))
	if _, err := proxytest.Get(t, host, clients.ModeGateway, "a.example.com"); err != nil {
		t.Fatal(err)
	}
	before := p.CA.Requests().Total()
	const day = 24 * time.Hour
	for _, ahead := range []time.Duration{60 * day, 29 * day, 1 * day, 365 * day} {
		clk.Advance(ahead)
		p.Tick(t)
	}
	p.Restart(t)
	p.Tick(t)
	if n := p.CA.Requests().Total() - before; n != 0 {
		t.Errorf("%d requests reached the CA", n)
	}
	if _, err := proxytest.Get(t, host, clients.ModeGateway, "a.example.com"); err != nil {
		t.Errorf("the client's own renewal: %v", err)
	}
}

// When the client disconnects at any step of the order, the tokens are removed, no
// certificate is fetched and nothing is stored (A16, A3).
func TestGatewayAbandoned(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{pebbletest.Challenge, pebbletest.Finalize} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			var ca pebbletest.Fault
			seen := proxytest.NewWitness()
			p := proxytest.Start(t, proxytest.Options{Pebble: pebbletest.Options{Wrap: func(h http.Handler) http.Handler {
				return ca.Wrap(seen.Wrap(h))
			}}})
			seen.Watch(t, p)
			host := p.Enroll(t, "web1", proxytest.Grant(clients.ModeGateway, "*.example.com"))
			client, err := host.API()
			if err != nil {
				t.Fatal(err)
			}
			arrived, release := ca.Hold(t, kind)
			ctx, hangUp := context.WithCancel(t.Context())
			defer hangUp()
			failed := make(chan error, 1)
			go func() {
				_, err := client.Issue(ctx, cert.Request{Names: proxytest.Names(t, "secret.example.com"), KeyType: cert.EC256}, nil)
				failed <- err
			}()
			watch.Await(t, "the CA is asked", arrived)
			published := seen.FetchAll() // where the challenge is held, the witness has not seen it
			if kind == pebbletest.Challenge && published != 1 {
				t.Errorf("%d tokens are published, want 1", published)
			}
			secrets := seen.Traces(t)
			secrets.Add("name", "secret.example.com")
			hangUp()
			if err := <-failed; !errors.Is(err, context.Canceled) {
				t.Errorf("the client's error: %v", err)
			}
			watch.Until(t, "the proxy gives up", func() bool { return strings.Contains(p.Log(), "abandoned by its client") })
			for token, name := range seen.Hosts() {
				if status, _ := proxytest.AnswerAt(t, p.HTTPAddr(), name, token); status != http.StatusNotFound {
					t.Errorf("token answered with %d after the client is gone", status)
				}
			}
			release()
			p.Stop(t)
			if n := p.CA.Requests().Count(pebbletest.Certificate); n != 0 {
				t.Errorf("%d certificates were fetched", n)
			}
			for _, found := range secrets.In(p.Everything(t)) {
				t.Error(found)
			}
		})
	}
}

// The stream reports each step once and in order, the certificate last (A14).
func TestGatewayEvents(t *testing.T) {
	t.Parallel()
	p := proxytest.Start(t, proxytest.Options{})
	c := p.NewCaller(t, "script", nil, proxytest.Grant(clients.ModeGateway, "*.example.com"))
	key, err := cert.GenerateKey(cert.EC384)
	if err != nil {
		t.Fatal(err)
	}
	want := proxytest.Names(t, "a.example.com", "b.example.com")
	events := c.Gateway(t, api.CertificateRequest{CSR: proxytest.CSR(t, key, want)})
	var got, identifiers []string
	for _, e := range events {
		got = append(got, strings.TrimSuffix(e.Event+" "+e.Stage, " "))
		if e.Identifier != "" {
			identifiers = append(identifiers, e.Identifier)
		}
	}
	wanted := []string{
		"stage ordering", "stage challenge", "stage challenge", "stage validating",
		"stage finalizing", "stage issuing", "stage issued", "certificate",
	}
	if !slices.Equal(got, wanted) {
		t.Errorf("events %q, want %q", got, wanted)
	}
	if slices.Sort(identifiers); !slices.Equal(identifiers, want) {
		t.Errorf("challenges of %q, want %q", identifiers, want)
	}
	last := events[len(events)-1]
	if len(last.Bundle) != 0 {
		t.Error("a bundle came for a CSR")
	}
	b, err := cert.NewBundle([]byte(last.Chain), nil, key.Public(), want)
	if err != nil || len(b.Chain) == 0 {
		t.Errorf("chain: %v, %v", b, err)
	}
	page, err := p.Admin.Audit(t.Context(), admin.AuditQuery{Client: "script"})
	if err != nil || slices.ContainsFunc(page.Entries, func(e admin.AuditEntry) bool { return e.Mode == clients.ModeGateway }) {
		t.Errorf("the audit trail knows of an issuance: %+v, %v", page.Entries, err)
	}
}

// The CA's text about a failed order reaches only the client that asked, as the last
// event (A14, X5).
func TestGatewayProblem(t *testing.T) {
	t.Parallel()
	var ca pebbletest.Fault
	p := proxytest.Start(t, proxytest.Options{Pebble: pebbletest.Options{Wrap: ca.Wrap}})
	host := p.Enroll(t, "web1", proxytest.Grant(clients.ModeGateway, "*.example.com"))
	client, err := host.API()
	if err != nil {
		t.Fatal(err)
	}
	ca.Set(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if pebbletest.Kind(r) != pebbletest.NewOrder {
			next.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Type", api.TypeProblem)
		w.Header().Set("Retry-After", "7200")
		w.WriteHeader(http.StatusTooManyRequests)
		fmt.Fprint(w, `{"type":"urn:ietf:params:acme:error:rateLimited","detail":"too many for limited.example.com","status":429}`)
	})
	_, err = client.Issue(t.Context(), cert.Request{Names: proxytest.Names(t, "limited.example.com"), KeyType: cert.EC256}, nil)
	var e *acme.Error
	if !errors.As(err, &e) || e.Kind != acme.RateLimited || time.Until(e.RetryAt) < time.Hour || !strings.Contains(e.Detail, "too many for limited") {
		t.Errorf("%+v; want the CA's refusal with its Retry-After", err)
	}
	p.Stop(t)
	if found := (proxytest.Traces{"name": []byte("limited.example.com")}).In(p.Everything(t)); len(found) > 0 {
		t.Error(found)
	}
}

// A request that is not granted in full is refused before an order exists, with names
// from a CSR or from the request (A22, M19).
func TestGatewayRefusesCSR(t *testing.T) {
	t.Parallel()
	p := proxytest.Start(t, proxytest.Options{})
	c := p.NewCaller(t, "script", nil, proxytest.Grant(clients.ModeGateway, "a.example.com"))
	key, err := cert.GenerateKey(cert.EC256)
	if err != nil {
		t.Fatal(err)
	}
	for what, req := range map[string]struct {
		body api.CertificateRequest
		want int
	}{
		"a further name in the CSR":    {api.CertificateRequest{CSR: proxytest.CSR(t, key, proxytest.Names(t, "a.example.com", "b.example.com"))}, http.StatusForbidden},
		"an address in the CSR":        {api.CertificateRequest{CSR: proxytest.CSR(t, key, proxytest.Names(t, "a.example.com", "192.0.2.1"))}, http.StatusForbidden},
		"names in addition to the CSR": {api.CertificateRequest{Names: []string{"b.example.com"}, CSR: proxytest.CSR(t, key, proxytest.Names(t, "a.example.com"))}, http.StatusUnprocessableEntity},
		"garbage":                      {api.CertificateRequest{CSR: "garbage"}, http.StatusUnprocessableEntity},
		"no CSR and no recipients":     {api.CertificateRequest{Names: []string{"a.example.com"}}, http.StatusUnprocessableEntity},
	} {
		req.body.Mode = clients.ModeGateway
		r := c.Do(t, http.MethodPost, api.PathCertificates, req.body)
		if r.Status != req.want {
			t.Errorf("%s: %d %s, want %d", what, r.Status, r.Body, req.want)
			continue
		}
		r.Problem(t)
	}
	if n := p.CA.Requests().Total(); n != 0 {
		t.Errorf("%d requests reached the CA", n)
	}
}
