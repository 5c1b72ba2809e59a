package audit_test

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/internal/watch"
	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/proxy"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
)

// In a new database, a client without its own quota gets the default (X20).
// Renewals by the proxy do not count against it.
func TestDefaultQuota(t *testing.T) {
	t.Parallel()
	var clk proxytest.Clock
	on := clk.On()
	p, c := proxytest.StartAgent(t, func(cfg *proxy.Config) { on(cfg); cfg.DefaultDailyQuota = "3" })
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

// X20: a request without an order does not count. Otherwise, an unavailable CA would
// use up the client's daily quota.
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
	ca.PassAll()
	if answer := ask(); !strings.Contains(answer, `"event":"`+api.EventCertificate) {
		t.Errorf("the CA is well: %s", answer)
	}
	if answer := ask(); !strings.Contains(answer, "quota") {
		t.Errorf("the second order: %s", answer)
	}
}

// A client gets its number of certificates per day, then the time of a retry. A
// request without an order does not use the quota (X20).
func TestQuota(t *testing.T) {
	t.Parallel()
	var clk proxytest.Clock
	clk.Noon()
	clk.Advance(-time.Hour)
	p := proxytest.Start(t, proxytest.Options{Change: clk.On()})
	_, recipient := proxytest.NewIdentity(t)
	grant := proxytest.Grant(clients.ModeAgent, "*.example.com")
	grant.Modes = []clients.Mode{clients.ModeAgent, clients.ModeGateway}
	grant.DailyQuota = 2
	c := p.NewCaller(t, "web1", []string{recipient}, grant)
	m := c.Register(t, "a.example.com")
	c.Bundle(t, m.ID, "")
	clk.Advance(time.Hour) // or it would be too soon for a renewal
	for range 3 {
		c.Register(t, "a.example.com")
	}
	c.Gateway(t, api.CertificateRequest{Names: []string{"b.example.com"}})
	before := p.CA.Requests().Total()
	for what, r := range map[string]proxytest.Reply{
		"agent":   c.Do(t, http.MethodPost, api.PathCertificates, api.CertificateRequest{Mode: clients.ModeAgent, Names: []string{"c.example.com"}}),
		"gateway": c.Do(t, http.MethodPost, api.PathCertificates, api.CertificateRequest{Mode: clients.ModeGateway, Names: []string{"c.example.com"}}),
		"renew":   c.Do(t, http.MethodPost, api.PathCertificates+"/"+m.ID+"/renew", nil),
	} {
		seconds, err := strconv.Atoi(r.Header.Get("Retry-After"))
		if r.Status != http.StatusTooManyRequests || err != nil || seconds < 11*3600 || seconds > 12*3600+1 {
			t.Errorf("%s beyond the quota: %d, Retry-After %q; want 429 until midnight UTC", what, r.Status, r.Header.Get("Retry-After"))
			continue
		}
		r.Problem(t)
	}
	c.Register(t, "a.example.com")
	if n := p.CA.Requests().Total() - before; n != 0 {
		t.Errorf("%d requests reached the CA", n)
	}
	got := p.Refusals(t)
	if len(got) != 3 || got[0].Client != "web1" || !strings.Contains(got[0].Detail, "quota") {
		t.Errorf("audit of refusals: %+v", got)
	}
	other := p.NewCaller(t, "web2", []string{recipient}, grant)
	other.Gateway(t, api.CertificateRequest{Names: []string{"d.example.com"}})
	clk.Advance(24 * time.Hour)
	c.Gateway(t, api.CertificateRequest{Names: []string{"c.example.com"}})
}
