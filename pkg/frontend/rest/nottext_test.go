package rest_test

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/acmeproxy/acmeproxy/internal/pgtest"
	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/frontend/admin"
	"github.com/acmeproxy/acmeproxy/pkg/proxy"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
)

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
			p, c := proxytest.StartAgent(t, change(t))
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
					"certs list": func(ctx context.Context) error {
						_, err := p.Admin.Certificates(ctx, admin.CertificateQuery{Client: text})
						return err
					},
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
