package rest_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/acmeproxy/acmeproxy/internal/dnstest"
	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/proxy"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
)

// A12: a client reads that something failed at the proxy. The endpoint, the
// address or the file of the administrator's is in the log and in the status.
func TestClientsReadNoEndpoint(t *testing.T) { // not parallel: lego's settings are the process's
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "database 10.9.8.7 says no", http.StatusInternalServerError)
	}))
	defer endpoint.Close()
	dns := dnstest.Start(t, dnstest.Options{Zones: []string{"zone.example."}})
	program := t.TempDir() + "/dns-program.sh"
	if err := os.WriteFile(program, []byte("#!/bin/sh\necho secret of 10.9.8.7 >&2\nexit 3\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	webroot := t.TempDir() + "/www"
	if err := os.Mkdir(webroot, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("HTTPREQ_ENDPOINT", endpoint.URL+"/internal")
	t.Setenv("EXEC_PATH", program)
	t.Setenv("EXEC_SEQUENCE_INTERVAL", "1") // the second attempt need not wait for a minute
	dns01 := func(provider string) func(c *proxy.Config) {
		return func(c *proxy.Config) {
			c.Challenge, c.DNSProvider, c.DNSResolvers, c.DNSPropagation = acme.DNS01, provider, []string{dns.Addr}, "resolvers"
		}
	}
	for name, test := range map[string]struct {
		change func(*proxy.Config)
		secret string // what only the administrator may read
	}{
		"httpreq":  {dns01("httpreq"), "10.9.8.7"},
		"exec":     {dns01("exec"), "exit status 3"},
		"webroot":  {func(c *proxy.Config) { c.HTTP01Webroot = webroot }, "/www: not a directory"},
		"CA":       {func(c *proxy.Config) { c.ACMEDirectoryURL = "https://127.0.0.1:1/internal" }, "127.0.0.1:1"},
		"CA's DNS": {func(c *proxy.Config) { c.ACMEDirectoryURL = "https://ca.internal.invalid/dir" }, "ca.internal.invalid"},
	} {
		t.Run(name, func(t *testing.T) {
			var clk proxytest.Clock
			p := proxytest.Start(t, proxytest.Options{Change: clk.On(test.change)})
			if name == "webroot" {
				// A file in its place, so that it cannot be created again.
				if err := os.RemoveAll(webroot); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(webroot, nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			host := p.Enroll(t, "host", proxytest.Grant(clients.ModeAgent, "*.zone.example"), proxytest.Grant(clients.ModeGateway, "*.zone.example"))
			for _, mode := range []clients.Mode{clients.ModeAgent, clients.ModeGateway} {
				stop := p.Hurry(&clk) // the first failure may come before the host waits for one
				_, err := proxytest.Get(t, host, mode, string(mode)+".zone.example")
				stop()
				text := fmt.Sprint(err)
				if !strings.Contains(text, acme.Hidden) {
					t.Errorf("%s: the client reads %q", mode, text)
				}
				for _, secret := range []string{test.secret, strings.TrimPrefix(endpoint.URL, "http://"), "10.9.8.7", "internal"} {
					if strings.Contains(text, secret) {
						t.Errorf("%s: the client reads %q in %q", mode, secret, text)
					}
				}
			}
			c, err := p.Admin.Client(t.Context(), "host")
			if err != nil || len(c.Certificates) != 1 || !strings.Contains(c.Certificates[0].LastError, test.secret) {
				t.Errorf("the administrator reads %+v, %v", c.Certificates, err)
			}
			for _, line := range []string{"no certificate yet", "gateway issuance failed"} {
				if !containsLine(p.Log(), line, test.secret) {
					t.Errorf("no %q with %q in the log", line, test.secret)
				}
			}
			if strings.Contains(p.Log(), "gateway.zone.example") { // A14
				t.Error("the log has a gateway's name")
			}
		})
	}
}

// containsLine reports whether a line of the log has both texts.
func containsLine(log, a, b string) bool {
	for line := range strings.Lines(log) {
		if strings.Contains(line, a) && strings.Contains(line, b) {
			return true
		}
	}
	return false
}
