package rest_test

import (
	"errors"
	"fmt"
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
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
	"github.com/acmeproxy/acmeproxy/pkg/remote"
)

// A token enrols one key: a lost answer may be asked for again with that key,
// no other key gets in, nor anyone after it has expired (A21, X14).
func TestEnrolment(t *testing.T) {
	t.Parallel()
	var clk proxytest.Clock
	p := proxytest.Start(t, proxytest.Options{Change: clk.On()})
	grant := proxytest.Grant(clients.ModeAgent, "*.example.com")
	token := p.AddClient(t, "web1", grant)
	web1, err := proxytest.EnrollHost(t, token)
	if err != nil {
		t.Fatal(err)
	}
	if who, err := proxytest.EnrollAgain(t, web1, token); err != nil || who.Name != "web1" {
		t.Errorf("the same key again: %v, %v", who, err)
	}
	_, err = proxytest.EnrollHost(t, token)
	proxytest.WantStatus(t, "another key", err, http.StatusUnauthorized)

	second := p.AddClient(t, "web2", grant)
	_, err = proxytest.EnrollAgain(t, web1, second)
	proxytest.WantStatus(t, "a key that is another client's", err, http.StatusConflict)
	if _, err := proxytest.EnrollHost(t, second); err != nil {
		t.Errorf("the token is used up by a refused attempt: %v", err)
	}

	third := p.AddClient(t, "web3", grant)
	forged := third
	forged.Secret[0]++
	_, err = proxytest.EnrollHost(t, forged)
	proxytest.WantStatus(t, "a wrong secret", err, http.StatusUnauthorized)
	pin := third
	pin.ProxyPin[0]++
	if _, err := proxytest.EnrollHost(t, pin); !errors.Is(err, remote.ErrPin) {
		t.Errorf("another proxy's pin: %v", err)
	}
	clk.Advance(25 * time.Hour)
	_, err = proxytest.EnrollHost(t, third)
	proxytest.WantStatus(t, "an expired token", err, http.StatusUnauthorized)
	_, err = proxytest.EnrollAgain(t, web1, token)
	proxytest.WantStatus(t, "an expired token, same key", err, http.StatusUnauthorized)
	client, err := web1.API()
	if err != nil {
		t.Fatal(err)
	}
	if who, err := client.Self(t.Context()); err != nil || who.Name != "web1" {
		t.Errorf("the enrolled key does not expire with its token: %v, %v", who, err)
	}
	got := p.Refusals(t)
	if len(got) != 5 {
		t.Errorf("%d refusals in the audit trail, want 5: %+v", len(got), got)
	}
	for _, e := range got {
		if e.Action != "enroll" || e.Addr != "127.0.0.1" || e.Detail == "" {
			t.Errorf("audit entry %+v", e)
		}
	}
}

// A disabled client is refused everywhere, its renewals included, until it is
// enabled again (A21).
func TestDisabledClient(t *testing.T) {
	t.Parallel()
	var clk proxytest.Clock
	p := proxytest.Start(t, proxytest.Options{Change: clk.On()})
	_, recipient := proxytest.NewIdentity(t)
	c := p.NewCaller(t, "web1", []string{recipient}, proxytest.Grant(clients.ModeAgent, "*.example.com"))
	m := c.Register(t, "a.example.com")
	etag := c.Bundle(t, m.ID, "").ETag()
	unused := p.AddClient(t, "web2", proxytest.Grant(clients.ModeAgent, "*.example.com"))
	for _, name := range []string{"web1", "web2"} {
		if _, err := p.Admin.SetDisabled(t.Context(), name, true); err != nil {
			t.Fatal(err)
		}
	}
	path := api.PathCertificates + "/" + m.ID
	calls := []struct {
		method, path string
		body         any
	}{
		{http.MethodGet, api.PathClient, nil},
		{http.MethodGet, api.PathCertificates, nil},
		{http.MethodPost, api.PathCertificates, api.CertificateRequest{Mode: clients.ModeAgent, Names: m.Names}},
		{http.MethodPost, api.PathCertificates, api.CertificateRequest{Mode: clients.ModeGateway, Names: m.Names}},
		{http.MethodGet, path, nil},
		{http.MethodGet, path + "/bundle?wait=60s", nil},
		{http.MethodPost, path + "/renew", nil},
		{http.MethodDelete, path, nil},
	}
	for _, call := range calls {
		if r := c.Do(t, call.method, call.path, call.body, "If-None-Match", etag); r.Status != http.StatusUnauthorized {
			t.Errorf("%s %s: %d, want 401", call.method, call.path, r.Status)
		}
	}
	before := credentials(t, p, "web2")
	_, err := proxytest.EnrollHost(t, unused)
	proxytest.WantStatus(t, "enrolment", err, http.StatusForbidden)
	if after := credentials(t, p, "web2"); after != before {
		t.Errorf("a disabled client's enrolment changed its credentials from %s to %s", before, after)
	}
	if got := p.Refusals(t); len(got) != len(calls)+1 {
		t.Errorf("%d refusals in the audit trail, want %d", len(got), len(calls)+1)
	}
	orders := p.CA.Requests().Count(pebbletest.NewOrder)
	clk.Advance(61 * 24 * time.Hour)
	p.Tick(t)
	var shown admin.Client
	watch.Until(t, "the renewal is refused", func() bool {
		shown, err = p.Admin.Client(t.Context(), "web1")
		if err != nil {
			t.Fatal(err)
		}
		return shown.Certificates[0].LastError != ""
	})
	if !strings.Contains(shown.Certificates[0].LastError, "disabled") {
		t.Errorf("the reason is %q", shown.Certificates[0].LastError)
	}
	if n := p.CA.Requests().Count(pebbletest.NewOrder) - orders; n != 0 {
		t.Errorf("%d orders for a disabled client", n)
	}

	if _, err := p.Admin.SetDisabled(t.Context(), "web1", false); err != nil {
		t.Fatal(err)
	}
	clk.Advance(time.Hour)
	p.Tick(t)
	c.Bundle(t, m.ID, etag)
}

// A removed client is forgotten: its credentials, its certificates, its hold on
// names. Only the audit trail knows it.
func TestRemovedClient(t *testing.T) {
	t.Parallel()
	p := proxytest.Start(t, proxytest.Options{})
	_, recipient := proxytest.NewIdentity(t)
	c := p.NewCaller(t, "web1", []string{recipient}, proxytest.Grant(clients.ModeAgent, "*.example.com"))
	m := c.Register(t, "a.example.com")
	bundle := c.Bundle(t, m.ID, "").Body
	if _, err := p.Admin.RemoveClient(t.Context(), "web1"); err != nil {
		t.Fatal(err)
	}
	if r := c.Do(t, http.MethodGet, api.PathCertificates+"/"+m.ID, nil); r.Status != http.StatusUnauthorized {
		t.Errorf("the removed client: %d, want 401", r.Status)
	}
	_, err := p.Admin.Client(t.Context(), "web1")
	proxytest.WantStatus(t, "clients show", err, http.StatusNotFound)

	_, other := proxytest.NewIdentity(t)
	heir := p.NewCaller(t, "web1", []string{other}, proxytest.Grant(clients.ModeAgent, "*.example.com"))
	if got := heir.Register(t, "a.example.com"); got.ID == m.ID {
		t.Error("a client of the same name inherits the certificate")
	}
	page, err := p.Admin.Audit(t.Context(), admin.AuditQuery{Client: "web1"})
	if err != nil || !slices.ContainsFunc(page.Entries, func(e admin.AuditEntry) bool { return e.Action == "client remove" }) {
		t.Errorf("audit: %+v, %v", page.Entries, err)
	}
	p.Stop(t)
	gone := proxytest.Traces{"recipient": []byte(recipient), "id": []byte(m.ID), "bundle": bundle[len(bundle)-64:]}
	for _, found := range gone.In(proxytest.Walk(t, p.DataDir)) {
		t.Errorf("after the removal: %s", found)
	}
}

// credentials are those of a client, as text.
func credentials(t *testing.T, p *proxytest.Proxy, name string) string {
	t.Helper()
	c, err := p.Admin.Client(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(c.Credentials)
}
