package proxy_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/acmeproxy/acmeproxy/internal/watch"
	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/cert/certfile"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/frontend/admin"
	"github.com/acmeproxy/acmeproxy/pkg/proxy"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
	"github.com/acmeproxy/acmeproxy/pkg/remote"
)

// One server has three clients in different modes (A1): stored with a hook (A5, A7),
// stored sealed (A10–A12, A17), streamed (A14, A18). The proxy's own port 80 answers
// the CA's challenges (D15).
func TestThreeModes(t *testing.T) {
	t.Parallel()
	threeModes(t, "")
}

// threeModes runs them on a store and returns the proxy and, by mode, the
// certificates with their hosts' keys.
func threeModes(t *testing.T, storeURL string) (*proxytest.Proxy, map[clients.Mode]*cert.Bundle) {
	t.Helper()
	hookFile := filepath.Join(t.TempDir(), "hook")
	p := proxytest.Start(t, proxytest.Options{Store: storeURL, Change: func(c *proxy.Config) {
		c.Domains = []string{"own.example.com"}
		c.CertificateObtainedHook = `echo "$ACMEPROXY_NAMES $RENEWED_LINEAGE $LEGO_CERT_DOMAIN" >> ` + hookFile
	}})
	agentHost := p.Enroll(t, "agent-host", proxytest.Grant(clients.ModeAgent, "*.agent.example.com"))
	gatewayHost := p.Enroll(t, "gateway-host", proxytest.Grant(clients.ModeGateway, "*.gateway.example.com"))

	var line []byte
	watch.Until(t, "the hook has run", func() bool {
		line, _ = os.ReadFile(hookFile) // the shell makes it before there is anything in it
		return bytes.HasSuffix(line, []byte("\n"))
	})
	own := filepath.Join(p.DataDir, "certs", "own.example.com")
	b, err := certfile.Read(own)
	if err != nil {
		t.Fatal(err)
	}
	if want := "own.example.com " + own + " own.example.com\n"; string(line) != want {
		t.Errorf("the hook saw %q, want %q", line, want)
	}
	info, err := os.Stat(filepath.Join(own, certfile.Key))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key mode %v, %v", info.Mode(), err)
	}
	if b.Key == nil {
		t.Error("the host has no key")
	}

	bundles := map[clients.Mode]*cert.Bundle{clients.ModeClient: b}
	for host, mode := range map[*remote.State]clients.Mode{agentHost: clients.ModeAgent, gatewayHost: clients.ModeGateway} {
		k, err := proxytest.Get(t, host, mode, "web."+string(mode)+".example.com")
		if err != nil {
			t.Fatalf("%s: %v", mode, err)
		}
		got, err := certfile.Read(k.Out)
		if err != nil || got.Serial() != k.Serial {
			t.Fatalf("%s: installed %v, %v", mode, got, err)
		}
		bundles[mode] = got
	}
	return p, bundles
}

// Requests without a credential are refused before the CA is asked (A21, A23).
func TestStrangers(t *testing.T) {
	t.Parallel()
	p := proxytest.Start(t, proxytest.Options{})
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	for _, auth := range []string{"", "Bearer apt1-nonsense", "Basic YTpi"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.URL+api.PathCertificates, strings.NewReader(`{"mode":"gateway","names":["a.example.com"]}`))
		if err != nil {
			t.Fatal(err)
		}
		if auth != "" {
			req.Header.Set("Authorization", auth)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusUnauthorized || resp.Header.Get("Content-Type") != api.TypeProblem {
			t.Errorf("%q: %s %q, %v; want a 401 problem", auth, resp.Status, body, err)
		}
	}
	plain, err := http.Get("http://" + p.HTTPSAddr() + api.PathHealth)
	if err == nil {
		defer plain.Body.Close()
		if plain.StatusCode != http.StatusBadRequest {
			t.Errorf("plaintext HTTP on the API port: %s", plain.Status)
		}
	}
	if n := p.CA.Requests().Total(); n != 0 {
		t.Errorf("%d requests reached the CA", n)
	}
}

// A name that is not granted is refused before any order (A22).
func TestRefusedNames(t *testing.T) {
	t.Parallel()
	p := proxytest.Start(t, proxytest.Options{})
	host := p.Enroll(t, "web1", proxytest.Grant(clients.ModeGateway, "a.example.com"), proxytest.Grant(clients.ModeAgent, "a.example.com"))
	for _, mode := range []clients.Mode{clients.ModeAgent, clients.ModeGateway} {
		_, err := proxytest.Get(t, host, mode, "b.example.com")
		var problem *api.Problem
		if !errors.As(err, &problem) || problem.Status != http.StatusForbidden {
			t.Errorf("%s: %v, want a 403 problem", mode, err)
		}
	}
	if n := p.CA.Requests().Total(); n != 0 {
		t.Errorf("%d requests reached the CA", n)
	}
	page, err := p.Admin.Audit(context.Background(), admin.AuditQuery{Outcome: "refused"})
	if err != nil || len(page.Entries) != 2 {
		t.Errorf("audit of refusals: %v, %v; want 2 entries", page.Entries, err)
	}
}
