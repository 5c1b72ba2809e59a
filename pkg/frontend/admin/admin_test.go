package admin_test

import (
	"net/http"
	"testing"

	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/frontend/admin"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
)

// No caller can administer a proxy over the network, with any credential (A27).
func TestNoAdministrationOverTheNetwork(t *testing.T) {
	t.Parallel()
	p := proxytest.Start(t, proxytest.Options{})
	c := p.NewCaller(t, "web1", nil, proxytest.Grant(clients.ModeAgent, "*.example.com"))
	for _, prefix := range []string{"", "/v1", "/admin", "/v1/admin"} {
		for _, op := range []struct{ method, path string }{
			{http.MethodGet, "/status"},
			{http.MethodGet, "/clients"},
			{http.MethodPost, "/clients"},
			{http.MethodPut, "/clients"},
			{http.MethodGet, "/clients/web1"},
			{http.MethodPost, "/clients/web1/disable"},
			{http.MethodPost, "/clients/web1/enable"},
			{http.MethodDelete, "/clients/web1"},
			{http.MethodGet, "/audit"},
			{http.MethodGet, "/ca"},
			{http.MethodPost, "/probes"},
			{http.MethodDelete, "/probes/x"},
		} {
			body := admin.NewClient{Name: "evil", Grants: []clients.Grant{proxytest.Grant(clients.ModeAgent, "*.example.com")}, Bearer: true}
			r := c.Do(t, op.method, prefix+op.path, body)
			if r.Status != http.StatusNotFound {
				t.Errorf("%s %s%s: %d %s, want 404", op.method, prefix, op.path, r.Status, r.Body)
			}
		}
	}
	clients, err := p.Admin.Clients(t.Context())
	if err != nil || len(clients) != 1 || clients[0].Disabled {
		t.Errorf("clients %+v, %v", clients, err)
	}
}
