package admin_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/watch"
	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/frontend/admin"
	"github.com/acmeproxy/acmeproxy/pkg/proxy"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
)

// The administrator can delete certificates of clients, and not those that this host
// is configured to have.
func TestForgetCertificate(t *testing.T) {
	t.Parallel()
	p, c := proxytest.StartAgent(t, func(cfg *proxy.Config) { cfg.Domains = []string{"own.example.com"} })
	m := c.Register(t, "a.example.com")
	all, err := p.Admin.Certificates(t.Context(), admin.CertificateQuery{})
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
	_, err = p.Admin.Certificates(t.Context(), admin.CertificateQuery{Client: "unknown"})
	proxytest.WantStatus(t, "no such client", err, http.StatusNotFound)
	page, err := p.Admin.Audit(t.Context(), admin.AuditQuery{Client: "web1", Outcome: "done"})
	if err != nil || page.Entries[0].Action != "certificate forget" {
		t.Errorf("audit: %+v, %v", page.Entries, err)
	}
}

// A long poll ends at once when its certificate is deleted.
func TestForgetWakesLongPolls(t *testing.T) {
	t.Parallel()
	p, c := proxytest.StartAgent(t, nil)
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
