package admin_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/internal/watch"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/frontend/admin"
	"github.com/acmeproxy/acmeproxy/pkg/proxy"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
)

// obtained waits until a certificate has another serial number than before.
func obtained(t *testing.T, p *proxytest.Proxy, id, before string) (d admin.CertificateDetails) {
	t.Helper()
	watch.Until(t, "the certificate is obtained", func() bool {
		var err error
		if d, err = p.Admin.Certificate(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		return d.Serial != before
	})
	return d
}

// The list is paged and selects on the wire. Invalid queries are refused.
func TestCertificateQueries(t *testing.T) {
	t.Parallel()
	p, c := proxytest.StartAgent(t, func(cfg *proxy.Config) { cfg.Domains = []string{"lb=own.example.com"} })
	for _, name := range []string{"a.example.com", "b.example.com"} {
		c.Bundle(t, c.Register(t, name).ID, "")
	}
	obtained(t, p, p.Own(t, "own.example.com").ID, "")
	seen := map[string]bool{}
	for after := ""; ; {
		page, err := p.Admin.CertificatePage(t.Context(), admin.CertificateQuery{}, after, 1)
		if err != nil || len(page.Certificates) > 1 {
			t.Fatalf("%+v, %v", page, err)
		}
		for _, m := range page.Certificates {
			seen[m.ID] = true
		}
		if after = page.Next; after == "" {
			break
		}
	}
	if len(seen) != 3 {
		t.Errorf("%d certificates on pages of one, want 3", len(seen))
	}
	for want, q := range map[int]admin.CertificateQuery{
		0: {Failing: true},
		1: {Name: "lb"},
		2: {Client: "web1"},
		3: {ExpiresBefore: time.Now().Add(100 * 24 * time.Hour)},
	} {
		if all, err := p.Admin.Certificates(t.Context(), q); err != nil || len(all) != want {
			t.Errorf("%+v: %+v, %v", q, all, err)
		}
	}
	if all, err := p.Admin.Certificates(t.Context(), admin.CertificateQuery{Client: admin.OwnHost}); err != nil || len(all) != 1 || all[0].Name != "lb" || all[0].Folder == "" {
		t.Errorf("of this host: %+v, %v", all, err)
	}
	_, err := p.Admin.CertificatePage(t.Context(), admin.CertificateQuery{}, "", 1000)
	proxytest.WantStatus(t, "a large page", err, http.StatusUnprocessableEntity)
	_, err = p.Admin.Certificate(t.Context(), "unknown")
	proxytest.WantStatus(t, "an unknown id", err, http.StatusNotFound)
}

// The administrator renews and revokes certificates of clients and of this host. If the
// CA does not revoke, nothing changes (X43, X44).
func TestCertificateOperations(t *testing.T) {
	t.Parallel()
	var ca pebbletest.Fault
	hook := proxytest.NewHookLog(t)
	p := proxytest.Start(t, proxytest.Options{Pebble: pebbletest.Options{Wrap: ca.Wrap}, Change: hook.On("own.example.com")})
	c, m, b := p.Managed(t, "web1", "a.example.com")
	own := obtained(t, p, p.Own(t, "own.example.com").ID, "")
	hook.Deployed(t, 1)
	for id, before := range map[string]string{m.ID: b.Serial(), own.ID: own.Serial} {
		ca.Fail(http.StatusServiceUnavailable, pebbletest.RevokeCert)
		_, err := p.Admin.RevokeCertificate(t.Context(), id, admin.RevokeCertificate{})
		proxytest.WantStatus(t, "the CA is down", err, http.StatusServiceUnavailable)
		if d, err := p.Admin.Certificate(t.Context(), id); err != nil || d.Serial != before || !d.RevokedAt.IsZero() {
			t.Errorf("after a failure: %+v, %v", d, err)
		}
		ca.PassAll()
		if _, err := p.Admin.RevokeCertificate(t.Context(), id, admin.RevokeCertificate{Reason: "superseded"}); err != nil {
			t.Fatal(err)
		}
		second := obtained(t, p, id, before)
		if !second.RevokedAt.IsZero() {
			t.Errorf("replaced: %+v", second)
		}
		_, err = p.Admin.RenewCertificate(t.Context(), id)
		proxytest.WantStatus(t, "a third order", err, http.StatusTooManyRequests)
	}
	p.WantRevoked(t, b, true, cert.Superseded)
	_, err := p.Admin.RevokeCertificate(t.Context(), own.ID, admin.RevokeCertificate{Forget: true})
	proxytest.WantStatus(t, "forget what is configured", err, http.StatusConflict)
	_, err = p.Admin.RevokeCertificate(t.Context(), own.ID, admin.RevokeCertificate{Reason: "stolen"})
	proxytest.WantStatus(t, "an unknown reason", err, http.StatusUnprocessableEntity)
	if _, err := p.Admin.RevokeCertificate(t.Context(), m.ID, admin.RevokeCertificate{Forget: true}); err != nil {
		t.Error(err)
	}
	if r := c.Do(t, http.MethodGet, "/v1/certificates/"+m.ID, nil); r.Status != http.StatusNotFound {
		t.Errorf("it is not forgotten: %d", r.Status)
	}
	for action, outcome := range map[string]string{"revoke": "done", "certificate renew": "refused", "certificate": "done"} {
		if n := p.Audited(t, "web1", action, outcome); n == 0 {
			t.Errorf("%s is not audited", action)
		}
	}
}

// A hook runs again on request. What belongs to a client or is not configured is refused
// with the reason.
func TestCertificateHook(t *testing.T) {
	t.Parallel()
	hook := proxytest.NewHookLog(t)
	p := proxytest.Start(t, proxytest.Options{Change: hook.On("own.example.com")})
	_, m, _ := p.Managed(t, "web1", "a.example.com")
	own := obtained(t, p, p.Own(t, "own.example.com").ID, "")
	for n := 1; n <= 2; n++ {
		hook.Deployed(t, n)
		watch.Until(t, "the deployment is done", func() bool { return p.Own(t, "own.example.com").Deployment == nil })
		if _, err := p.Admin.DeployCertificate(t.Context(), own.ID); err != nil {
			t.Fatal(err)
		}
	}
	hook.Deployed(t, 3)
	_, err := p.Admin.DeployCertificate(t.Context(), m.ID)
	proxytest.WantStatus(t, "a client's", err, http.StatusConflict)
	p.Restart(t, func(cfg *proxy.Config) { cfg.Domains = nil })
	_, err = p.Admin.RenewCertificate(t.Context(), own.ID)
	proxytest.WantStatus(t, "not configured", err, http.StatusConflict)
	if n := p.Orders(); n != 2 {
		t.Errorf("%d orders", n)
	}
	if _, err := p.Admin.ForgetCertificate(t.Context(), own.ID); err != nil {
		t.Error(err)
	}
}
