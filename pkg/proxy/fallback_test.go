package proxy_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/proxy"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
	"github.com/acmeproxy/acmeproxy/pkg/responder"
)

// Port 80 answers all other requests as http-fallback says, and certificates are
// issued with each of its values (A2, A3).
func TestHTTPFallback(t *testing.T) {
	t.Parallel()
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "backend of "+r.Host)
	}))
	t.Cleanup(backend.Close)
	for _, test := range []struct {
		fallback       string
		status         int
		body, location string
	}{
		{"404", http.StatusNotFound, "not found\n", ""},
		{"redirect", http.StatusMovedPermanently, "", "https://a.example.com/page"},
		{backend.URL, http.StatusOK, "backend of a.example.com", ""},
	} {
		t.Run(test.fallback, func(t *testing.T) {
			t.Parallel()
			p := proxytest.Start(t, proxytest.Options{Change: func(c *proxy.Config) { c.HTTPFallback = test.fallback }})
			if _, err := proxytest.Get(t, p.Enroll(t, "web1", proxytest.Grant(clients.ModeGateway, "*.example.com")), clients.ModeGateway, "a.example.com"); err != nil {
				t.Fatal(err)
			}
			for path, want := range map[string]struct {
				status         int
				body, location string
			}{
				"/page":                      {test.status, test.body, test.location},
				responder.Prefix + "unknown": {http.StatusNotFound, "not found\n", ""},
			} {
				req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+p.HTTPAddr()+path, nil)
				if err != nil {
					t.Fatal(err)
				}
				req.Host = "a.example.com"
				resp, err := http.DefaultTransport.RoundTrip(req)
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil || resp.StatusCode != want.status || string(body) != want.body || resp.Header.Get("Location") != want.location {
					t.Errorf("%s: %d %q %q, %v", path, resp.StatusCode, body, resp.Header.Get("Location"), err)
				}
			}
		})
	}
}
