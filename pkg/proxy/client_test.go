package proxy_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/auth"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/cert/certfile"
	"github.com/acmeproxy/acmeproxy/pkg/frontend/admin"
	"github.com/acmeproxy/acmeproxy/pkg/proxy"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
)

// hookLog is a hook that writes down its environment at each run.
type hookLog struct{ dir string }

func newHookLog(t testing.TB) *hookLog { return &hookLog{t.TempDir()} }

// command fails while the file "broken" is in the folder.
func (h *hookLog) command() string {
	return fmt.Sprintf(`cd %s && env > tmp.$$ && mv tmp.$$ run.$(ls | grep -c '^run') && test ! -e broken`, h.dir)
}

// runs are the environments of all runs so far.
func (h *hookLog) runs(t testing.TB) (all []map[string]string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(h.dir, "run.*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		env := map[string]string{}
		for line := range strings.Lines(string(data)) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			env[name] = value
		}
		all = append(all, env)
	}
	return all
}

// deployed waits until the hook has run n times and all is well.
func (h *hookLog) deployed(t testing.TB, p *proxytest.Proxy, n int) {
	t.Helper()
	proxytest.Until(t, fmt.Sprintf("the hook has run %d times", n), func() bool { return len(h.runs(t)) >= n })
	if got := len(h.runs(t)); got != n {
		t.Errorf("the hook ran %d times, want %d", got, n)
	}
}

func (h *hookLog) on(domains ...string) func(*proxy.Config) {
	return func(c *proxy.Config) {
		c.Domains = domains
		c.CertificateObtainedHook = h.command()
	}
}

// own is the row of acme-client mode for one name in the proxy's status.
func own(t testing.TB, p *proxytest.Proxy, name string) (c admin.Certificate) {
	t.Helper()
	status, err := p.Admin.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(status.Certificates, func(c admin.Certificate) bool { return slices.Contains(c.Names, name) })
	if i >= 0 {
		c = status.Certificates[i]
	}
	return c
}

// A configured domain is obtained at start, renewed in time, and the hook is
// told each time in three dialects (A5, A6, A7, X11).
func TestClientObtainsAndRenews(t *testing.T) {
	t.Parallel()
	var clk clock
	hook := newHookLog(t)
	p := proxytest.Start(t, proxytest.Options{Change: clk.on(hook.on("www.own.example.com,own.example.com"), func(c *proxy.Config) {
		c.Email = "ops@example.com"
	})})
	dir := filepath.Join(p.DataDir, "certs", "own.example.com")
	var serials []string
	for n := 1; n <= 2; n++ {
		hook.deployed(t, p, n)
		b, err := certfile.Read(dir)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := b.Names(); err != nil || !got.Equal(names(t, "own.example.com", "www.own.example.com")) {
			t.Errorf("names %s, %v", got, err)
		}
		serials = append(serials, b.Serial())
		var env map[string]string
		for _, run := range hook.runs(t) {
			if run["ACMEPROXY_SERIAL"] == b.Serial() {
				env = run
			}
		}
		for name, want := range map[string]string{
			"ACMEPROXY_EVENT":          "certificate-obtained",
			"ACMEPROXY_MODE":           api.ModeClient,
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
			clk.advance(61 * 24 * time.Hour)
			tick(t, p)
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
	var clk clock
	hook := newHookLog(t)
	broken := filepath.Join(hook.dir, "broken")
	if err := os.WriteFile(broken, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	p := proxytest.Start(t, proxytest.Options{Change: clk.on(hook.on("own.example.com"))})
	proxytest.Until(t, "the failure shows", func() bool { return own(t, p, "own.example.com").HookError != "" })
	c := own(t, p, "own.example.com")
	b, err := certfile.Read(filepath.Join(p.DataDir, "certs", "own.example.com"))
	if err != nil || b.Serial() != c.Serial || c.LastError != "" {
		t.Errorf("on the disk %v, %v; status %+v", b, err, c)
	}
	if !strings.Contains(p.Log(), "its deployment failed") {
		t.Error("the failure is not in the log")
	}
	tick(t, p)
	hook.deployed(t, p, 1) // not at once again

	p.Restart(t) // the failure is remembered
	if got := own(t, p, "own.example.com"); got.HookError == "" {
		t.Error("the restart forgot the failed hook")
	}
	clk.advance(2 * time.Minute)
	tick(t, p)
	hook.deployed(t, p, 2)

	p.Stop(t) // waits for the hook
	if err := os.Remove(broken); err != nil {
		t.Fatal(err)
	}
	p.Restart(t)
	clk.advance(time.Hour)
	tick(t, p)
	proxytest.Until(t, "the hook is through", func() bool { return own(t, p, "own.example.com").HookError == "" })
	clk.advance(24 * time.Hour)
	tick(t, p)
	p.Stop(t)
	hook.deployed(t, p, 3)
	if n := p.CA.Requests().Count(pebbletest.NewOrder); n != 1 {
		t.Errorf("%d orders, want 1", n)
	}
}

// Nothing runs when nothing changed; files that were lost come back without an
// order (A9).
func TestClientRestarts(t *testing.T) {
	t.Parallel()
	var clk clock
	hook := newHookLog(t)
	p := proxytest.Start(t, proxytest.Options{Change: clk.on(hook.on("own.example.com"))})
	dir := filepath.Join(p.DataDir, "certs", "own.example.com")
	hook.deployed(t, p, 1)
	proxytest.Until(t, "the certificate is recorded", func() bool { return own(t, p, "own.example.com").Serial != "" })
	p.Stop(t) // a hook that still runs may finish
	before, err := certfile.Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		p.Restart(t)
		clk.advance(24 * time.Hour)
		tick(t, p)
		p.Stop(t)
	}
	hook.deployed(t, p, 1)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	p.Restart(t)
	hook.deployed(t, p, 2)
	p.Stop(t)
	if after, err := certfile.Read(dir); err != nil || after.Serial() != before.Serial() || !cert.SameKey(after.Key.Public(), before.Key.Public()) {
		t.Errorf("what came back: %v, %v", after, err)
	}
	if n := p.CA.Requests().Count(pebbletest.NewOrder); n != 1 {
		t.Errorf("%d orders, want 1", n)
	}
}

// A domain that is no longer configured keeps its files and is not renewed;
// configured again, it goes on where it was.
func TestClientDomainComesAndGoes(t *testing.T) {
	t.Parallel()
	var clk clock
	p := proxytest.Start(t, proxytest.Options{Change: clk.on(func(c *proxy.Config) {
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
	proxytest.Until(t, "both are there", func() bool { return serial("a.example.com") != "" && serial("b.example.com") != "" })
	a, b := serial("a.example.com"), serial("b.example.com")

	p.Restart(t, func(c *proxy.Config) { c.Domains = []string{"a.example.com"} })
	clk.advance(61 * 24 * time.Hour)
	tick(t, p)
	proxytest.Until(t, "a is renewed", func() bool { return serial("a.example.com") != a })
	clk.advance(365 * 24 * time.Hour)
	p.Restart(t, func(c *proxy.Config) { c.Domains = nil })
	tick(t, p)
	p.Stop(t)
	if orders() != 3 || serial("b.example.com") != b {
		t.Errorf("%d orders, want 3; b's serial %s, was %s", orders(), serial("b.example.com"), b)
	}
	p.Restart(t, func(c *proxy.Config) { c.Domains = []string{"b.example.com"} })
	tick(t, p)
	proxytest.Until(t, "b is renewed", func() bool { return serial("b.example.com") != b })
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

// pinned is the certificate that a remote gets.
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
	var clk clock
	var ca fault
	ca.fail(http.StatusServiceUnavailable)
	p := proxytest.Start(t, proxytest.Options{
		Pebble: pebbletest.Options{Wrap: ca.wrap},
		Change: clk.on(func(c *proxy.Config) { c.Hostname = "Proxy.Example.com" }),
	})
	if _, err := handshake(t, p, hostname); err == nil {
		t.Error("there is a CA's certificate before the CA gave one")
	}
	token := p.AddClient(t, "probe", proxytest.Grant(api.ModeGateway, "*.example.com"))
	if auth.SPKIPin(pinned(t, p)) != token.ProxyPin {
		t.Error("the API does not serve the pinned key")
	}
	web1 := p.Enroll(t, "web1", proxytest.Grant(api.ModeAgent, "*.web1.example.com"))
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

	ca.mend()
	clk.advance(10 * time.Minute)
	tick(t, p)
	served := func() string {
		leaf, err := handshake(t, p, hostname)
		if err != nil {
			return ""
		}
		return leaf.SerialNumber.String()
	}
	proxytest.Until(t, "the API serves the CA's certificate", func() bool { return served() != "" })
	first := served()
	remotesWork("after")
	p.Enroll(t, "web2", proxytest.Grant(api.ModeAgent, "*.web2.example.com"))

	p.Restart(t)
	if got := served(); got != first {
		t.Errorf("after a restart the API serves %q, was %q", got, first)
	}
	remotesWork("after a restart")
	if n := p.CA.Requests().Count(pebbletest.Finalize); n != 1 {
		t.Errorf("%d certificates were ordered", n)
	}
	clk.advance(61 * 24 * time.Hour)
	tick(t, p)
	proxytest.Until(t, "the API serves the new certificate", func() bool { s := served(); return s != "" && s != first })
	remotesWork("after a renewal")
}
