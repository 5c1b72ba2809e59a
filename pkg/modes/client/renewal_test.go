package client_test

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/internal/watch"
	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/auth"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/cert/certfile"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/proxy"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
)

// A configured domain is obtained at start and renewed in time. The hook runs each
// time, with variables in three dialects (A5, A6, A7, X11).
func TestClientObtainsAndRenews(t *testing.T) {
	t.Parallel()
	var clk proxytest.Clock
	hook := proxytest.NewHookLog(t)
	p := proxytest.Start(t, proxytest.Options{Change: clk.On(hook.On("www.own.example.com,own.example.com"), func(c *proxy.Config) {
		c.Email = "ops@example.com"
	})})
	dir := filepath.Join(p.DataDir, "certs", "www.own.example.com") // the first name as given
	var serials []string
	for n := 1; n <= 2; n++ {
		hook.Deployed(t, n)
		b, err := certfile.Read(dir)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := b.Names(); err != nil || !got.Equal(proxytest.Names(t, "own.example.com", "www.own.example.com")) {
			t.Errorf("names %s, %v", got, err)
		}
		serials = append(serials, b.Serial())
		var env map[string]string
		for _, run := range hook.Runs(t) {
			if run["ACMEPROXY_SERIAL"] == b.Serial() {
				env = run
			}
		}
		for name, want := range map[string]string{
			"ACMEPROXY_EVENT":          "certificate-obtained",
			"ACMEPROXY_MODE":           string(clients.ModeClient),
			"ACMEPROXY_NAME":           "own.example.com",
			"ACMEPROXY_NAMES":          "own.example.com www.own.example.com",
			"ACMEPROXY_DIR":            dir,
			"ACMEPROXY_CERT_PATH":      filepath.Join(dir, "cert.pem"),
			"ACMEPROXY_CHAIN_PATH":     filepath.Join(dir, "chain.pem"),
			"ACMEPROXY_FULLCHAIN_PATH": filepath.Join(dir, "fullchain.pem"),
			"ACMEPROXY_KEY_PATH":       filepath.Join(dir, "privkey.pem"),
			"ACMEPROXY_SERIAL":         b.Serial(),
			"ACMEPROXY_NOT_AFTER":      b.NotAfter().UTC().Format(time.RFC3339),
			"RENEWED_LINEAGE":          dir,
			"RENEWED_DOMAINS":          "own.example.com www.own.example.com",
			"LEGO_ACCOUNT_EMAIL":       "ops@example.com",
			"LEGO_CERT_DOMAIN":         "own.example.com",
			"LEGO_CERT_PATH":           filepath.Join(dir, "fullchain.pem"),
			"LEGO_CERT_KEY_PATH":       filepath.Join(dir, "privkey.pem"),
			"LEGO_ISSUER_CERT_PATH":    filepath.Join(dir, "chain.pem"),
		} {
			if env[name] != want {
				t.Errorf("run %d: %s=%q, want %q", n, name, env[name], want)
			}
		}
		if n == 1 {
			p.Restart(t) // or the hook's lease would end before the hook
			clk.Advance(61 * 24 * time.Hour)
			p.Tick(t)
		}
	}
	if serials[0] == serials[1] {
		t.Error("the renewal brought the old certificate")
	}
	if n := p.CA.Requests().Count(pebbletest.NewOrder); n != 2 {
		t.Errorf("%d orders, want 2", n)
	}
}

// A hook that fails loses no certificate, shows in the status and runs again
// (A8).
func TestClientHookFails(t *testing.T) {
	t.Parallel()
	var clk proxytest.Clock
	hook := proxytest.NewHookLog(t)
	broken := filepath.Join(hook.Dir, "broken")
	if err := os.WriteFile(broken, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	p := proxytest.Start(t, proxytest.Options{Change: clk.On(hook.On("own.example.com"))})
	watch.Until(t, "the failure shows", func() bool { return p.Own(t, "own.example.com").HookError != "" })
	c := p.Own(t, "own.example.com")
	b, err := certfile.Read(filepath.Join(p.DataDir, "certs", "own.example.com"))
	if err != nil || b.Serial() != c.Serial || c.LastError != "" {
		t.Errorf("on the disk %v, %v; status %+v", b, err, c)
	}
	if !strings.Contains(p.Log(), "its deployment failed") {
		t.Error("the failure is not in the log")
	}
	p.Tick(t)
	hook.Deployed(t, 1) // not at once again

	p.Restart(t) // the failure is stored, and a start tries again (X44)
	if got := p.Own(t, "own.example.com"); got.HookError == "" {
		t.Error("the restart forgot the failed hook")
	}
	hook.Deployed(t, 2)
	watch.Until(t, "the second failure is stored", func() bool {
		d := p.Own(t, "own.example.com").Deployment
		return d != nil && d.Failures == 2 && d.RunBy == ""
	})
	clk.Advance(time.Hour)
	p.Tick(t)
	hook.Deployed(t, 3)

	p.Stop(t) // waits for the hook
	if err := os.Remove(broken); err != nil {
		t.Fatal(err)
	}
	p.Restart(t)
	watch.Until(t, "the hook is through", func() bool { return p.Own(t, "own.example.com").HookError == "" })
	clk.Advance(24 * time.Hour)
	p.Tick(t)
	p.Stop(t)
	hook.Deployed(t, 4)
	if n := p.CA.Requests().Count(pebbletest.NewOrder); n != 1 {
		t.Errorf("%d orders, want 1", n)
	}
}

// Nothing runs when nothing changed; files that were lost come back without an
// order (A9).
func TestClientRestarts(t *testing.T) {
	t.Parallel()
	var clk proxytest.Clock
	hook := proxytest.NewHookLog(t)
	p := proxytest.Start(t, proxytest.Options{Change: clk.On(hook.On("own.example.com"))})
	dir := filepath.Join(p.DataDir, "certs", "own.example.com")
	hook.Deployed(t, 1)
	watch.Until(t, "the certificate is recorded", func() bool { return p.Own(t, "own.example.com").Serial != "" })
	p.Stop(t) // a hook that still runs may finish
	before, err := certfile.Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		p.Restart(t)
		clk.Advance(24 * time.Hour)
		p.Tick(t)
		p.Stop(t)
	}
	hook.Deployed(t, 1)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	p.Restart(t)
	hook.Deployed(t, 2)
	p.Stop(t)
	if after, err := certfile.Read(dir); err != nil || after.Serial() != before.Serial() || !cert.SameKey(after.Key.Public(), before.Key.Public()) {
		t.Errorf("what came back: %v, %v", after, err)
	}
	if n := p.CA.Requests().Count(pebbletest.NewOrder); n != 1 {
		t.Errorf("%d orders, want 1", n)
	}
}

// A domain that is no longer configured keeps its files and is not renewed. When it
// is configured again, its renewals continue.
func TestClientDomainComesAndGoes(t *testing.T) {
	t.Parallel()
	var clk proxytest.Clock
	p := proxytest.Start(t, proxytest.Options{Change: clk.On(func(c *proxy.Config) {
		c.Domains = []string{"a.example.com", "b.example.com"}
	})})
	orders := func() int { return p.CA.Requests().Count(pebbletest.NewOrder) }
	serial := func(name string) string {
		b, err := certfile.Read(filepath.Join(p.DataDir, "certs", name))
		if err != nil {
			return ""
		}
		return b.Serial()
	}
	watch.Until(t, "both are there", func() bool { return serial("a.example.com") != "" && serial("b.example.com") != "" })
	a, b := serial("a.example.com"), serial("b.example.com")

	p.Restart(t, func(c *proxy.Config) { c.Domains = []string{"a.example.com"} })
	clk.Advance(61 * 24 * time.Hour)
	p.Tick(t)
	watch.Until(t, "a is renewed", func() bool { return serial("a.example.com") != a })
	clk.Advance(365 * 24 * time.Hour)
	p.Restart(t, func(c *proxy.Config) { c.Domains = nil })
	p.Tick(t)
	p.Stop(t)
	if orders() != 3 || serial("b.example.com") != b {
		t.Errorf("%d orders, want 3; b's serial %s, was %s", orders(), serial("b.example.com"), b)
	}
	p.Restart(t, func(c *proxy.Config) { c.Domains = []string{"b.example.com"} })
	p.Tick(t)
	watch.Until(t, "b is renewed", func() bool { return serial("b.example.com") != b })
	p.Stop(t)
	if orders() != 4 {
		t.Errorf("%d orders, want 4", orders())
	}
}

// handshake connects to the API as an ordinary client that trusts the CA.
func handshake(t testing.TB, p *proxytest.Proxy, name string) (*x509.Certificate, error) {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(p.CA.RootsPEM)
	conn, err := tls.Dial("tcp", p.HTTPSAddr(), &tls.Config{ServerName: name, RootCAs: roots, NextProtos: []string{"h2", "http/1.1"}})
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0], nil
}

// pinned returns the certificate that a remote gets.
func pinned(t testing.TB, p *proxytest.Proxy) *x509.Certificate {
	t.Helper()
	conn, err := tls.Dial("tcp", p.HTTPSAddr(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2", api.ALPN}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0]
}

// The proxy obtains the API's own certificate: browsers get that, remotes the
// pinned one, before and after, through renewals and restarts (A44).
func TestClientCertificateOfTheAPI(t *testing.T) {
	t.Parallel()
	const hostname = "proxy.example.com"
	var clk proxytest.Clock
	var ca pebbletest.Fault
	ca.Fail(http.StatusServiceUnavailable)
	p := proxytest.Start(t, proxytest.Options{
		Pebble: pebbletest.Options{Wrap: ca.Wrap},
		Change: clk.On(func(c *proxy.Config) { c.Hostname = "Proxy.Example.com" }),
	})
	if _, err := handshake(t, p, hostname); err == nil {
		t.Error("there is a CA's certificate before the CA gave one")
	}
	token := p.AddClient(t, "probe", proxytest.Grant(clients.ModeGateway, "*.example.com"))
	if auth.SPKIPin(pinned(t, p)) != token.ProxyPin {
		t.Error("the API does not serve the pinned key")
	}
	web1 := p.Enroll(t, "web1", proxytest.Grant(clients.ModeAgent, "*.web1.example.com"))
	remotesWork := func(when string) {
		t.Helper()
		client, err := web1.API()
		if err != nil {
			t.Fatal(err)
		}
		if who, err := client.Self(t.Context()); err != nil || who.Name != "web1" {
			t.Errorf("%s: the remote: %v, %v", when, who, err)
		}
		if auth.SPKIPin(pinned(t, p)) != token.ProxyPin {
			t.Errorf("%s: another key is pinned", when)
		}
	}
	remotesWork("before")

	ca.PassAll()
	clk.Advance(10 * time.Minute)
	p.Tick(t)
	served := func() string {
		leaf, err := handshake(t, p, hostname)
		if err != nil {
			return ""
		}
		return leaf.SerialNumber.String()
	}
	watch.Until(t, "the API serves the CA's certificate", func() bool { return served() != "" })
	first := served()
	remotesWork("after")
	p.Enroll(t, "web2", proxytest.Grant(clients.ModeAgent, "*.web2.example.com"))

	p.Restart(t)
	if got := served(); got != first {
		t.Errorf("after a restart the API serves %q, was %q", got, first)
	}
	remotesWork("after a restart")
	if n := p.CA.Requests().Count(pebbletest.Finalize); n != 1 {
		t.Errorf("%d certificates were ordered", n)
	}
	clk.Advance(61 * 24 * time.Hour)
	p.Tick(t)
	watch.Until(t, "the API serves the new certificate", func() bool { s := served(); return s != "" && s != first })
	remotesWork("after a renewal")
}
