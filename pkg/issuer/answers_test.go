package issuer_test

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/dnstest"
	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/internal/watch"
	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/cert/certfile"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/config"
	"github.com/acmeproxy/acmeproxy/pkg/proxy"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
	"github.com/acmeproxy/acmeproxy/pkg/remote"
)

// TLS-ALPN-01 shares the API's port with remotes and everybody else; nothing
// listens on port 80 (D15).
func TestTLSALPNOnTheAPIPort(t *testing.T) {
	t.Parallel()
	ca := pebbletest.Start(t, pebbletest.Options{})
	p := proxytest.Start(t, proxytest.Options{CA: ca, Change: func(c *proxy.Config) {
		c.Challenge, c.HTTPAddr = "tls-alpn-01", config.None
		c.HTTPSAddr = fmt.Sprintf("127.0.0.1:%d", ca.TLSPort)
		c.Hostname = "api.example.com"
	}})
	if p.HTTPAddr() != config.None {
		t.Errorf("port 80 is at %s", p.HTTPAddr())
	}
	agent := p.Enroll(t, "agent", proxytest.Grant(clients.ModeAgent, "*.example.com"))
	if _, err := proxytest.Get(t, agent, clients.ModeAgent, "a.example.com", "b.example.com"); err != nil {
		t.Fatal(err)
	}
	gateway := p.Enroll(t, "gateway", proxytest.Grant(clients.ModeGateway, "127.0.0.0/8"))
	if _, err := proxytest.Get(t, gateway, clients.ModeGateway, "127.0.0.1"); err != nil { // X4
		t.Fatal(err)
	}
	own := filepath.Join(p.DataDir, "certs", "api.example.com")
	watch.Until(t, "the API has its certificate", func() bool { _, err := certfile.Read(own); return err == nil })
}

// D15: where port 80 is another web server's, it serves the answers from a
// folder or a hook brings them, in each mode.
func TestAnswersOfAnotherWebServer(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(c *proxy.Config, root string){
		"webroot": func(c *proxy.Config, root string) { c.HTTP01Webroot = root },
		"hook": func(c *proxy.Config, root string) {
			c.HTTP01Hook = `cd "` + root + `/.well-known/acme-challenge"
case $ACMEPROXY_EVENT in
challenge-present) printf %s "$CERTBOT_VALIDATION" > "$CERTBOT_TOKEN" ;;
challenge-remove) rm -- "$CERTBOT_TOKEN" ;;
esac`
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			tokens := filepath.Join(root, ".well-known", "acme-challenge")
			if err := os.MkdirAll(tokens, 0o755); err != nil {
				t.Fatal(err)
			}
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			ca := pebbletest.Start(t, pebbletest.Options{HTTPPort: l.Addr().(*net.TCPAddr).Port})
			web := &http.Server{Handler: http.FileServer(http.Dir(root)), ReadHeaderTimeout: time.Minute}
			t.Cleanup(func() { web.Close() })
			go web.Serve(l)
			p := proxytest.Start(t, proxytest.Options{CA: ca, Change: func(c *proxy.Config) {
				c.HTTPAddr, c.Domains = config.None, []string{"own.example.com"}
				change(c, root)
			}})
			for _, mode := range []clients.Mode{clients.ModeAgent, clients.ModeGateway} {
				host := p.Enroll(t, string(mode), proxytest.Grant(mode, "*."+string(mode)+".example.com"))
				if _, err := proxytest.Get(t, host, mode, "a."+string(mode)+".example.com", "b."+string(mode)+".example.com"); err != nil {
					t.Fatal(err)
				}
			}
			own := filepath.Join(p.DataDir, "certs", "own.example.com")
			watch.Until(t, "the proxy's own certificate is there", func() bool { _, err := certfile.Read(own); return err == nil })
			p.Stop(t)
			if left, err := os.ReadDir(tokens); err != nil || len(left) != 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}

// X4: a profile that a client asks for is the one that the CA sees, in either
// mode, and another one is another certificate.
func TestProfiles(t *testing.T) {
	t.Parallel()
	p := proxytest.Start(t, proxytest.Options{
		Pebble: pebbletest.Options{Profiles: map[string]time.Duration{"classic": 90 * 24 * time.Hour, "shortlived": 160 * time.Hour}},
		Change: func(c *proxy.Config) { c.Domains, c.Profile = []string{"own.example.com"}, "shortlived" },
	})
	host := p.Enroll(t, "host", proxytest.Grant(clients.ModeAgent, "*.example.com"), proxytest.Grant(clients.ModeGateway, "*.example.com"))
	g, err := host.Getter(nil)
	if err != nil {
		t.Fatal(err)
	}
	lives := func(dir string) time.Duration {
		t.Helper()
		b, err := certfile.Read(dir)
		if err != nil {
			t.Fatal(err)
		}
		return b.Leaf.NotAfter.Sub(b.Leaf.NotBefore).Round(time.Hour)
	}
	for _, mode := range []clients.Mode{clients.ModeAgent, clients.ModeGateway} {
		w := remote.Wanted{Names: proxytest.Names(t, string(mode)+".example.com"), Mode: mode, KeyType: cert.EC256, Out: filepath.Join(t.TempDir(), "out")}
		serials := map[string]bool{}
		steps := []struct {
			profile string
			want    time.Duration
		}{{"classic", 90 * 24 * time.Hour}, {"shortlived", 160 * time.Hour}, {"classic", 90 * 24 * time.Hour}}
		if mode == clients.ModeAgent {
			steps = steps[:2] // as many as a client can order in an hour for the same names
		}
		for _, step := range steps {
			w.Profile = step.profile
			k, err := g.Get(t.Context(), w)
			if err != nil {
				t.Fatal(err)
			}
			serials[k.Serial] = true
			if life := lives(w.Out); life != step.want {
				t.Errorf("%s, %s: valid for %v, want %v", mode, step.profile, life, step.want)
			}
		}
		if len(serials) != len(steps) {
			t.Errorf("%s: %d certificates, want %d", mode, len(serials), len(steps))
		}
		orders := p.CA.Requests().Count(pebbletest.NewOrder)
		w.Profile = "no-such"
		_, err := g.Get(t.Context(), w)
		var problem *api.Problem
		if !strings.Contains(fmt.Sprint(err), "use none, or one of classic, shortlived") || errors.As(err, &problem) && problem.Status != http.StatusUnprocessableEntity {
			t.Errorf("%s: %v", mode, err)
		}
		if n := p.CA.Requests().Count(pebbletest.NewOrder); n != orders {
			t.Errorf("%s: an order for a profile that does not exist", mode)
		}
	}
	own := filepath.Join(p.DataDir, "certs", "own.example.com")
	watch.Until(t, "the proxy's own certificate is there", func() bool { _, err := certfile.Read(own); return err == nil })
	if life := lives(own); life != 160*time.Hour {
		t.Errorf("the proxy's own: valid for %v", life)
	}
}

// M47: a wildcard and its base in one certificate, for a client that is granted
// both, through a program that publishes TXT records (D15).
func TestWildcard(t *testing.T) { // not parallel: lego's settings are the process's
	dir := t.TempDir()
	program := filepath.Join(t.TempDir(), "dns.sh")
	text := "#!/bin/sh -e\ncd " + dir + "\ncase $1 in\npresent) echo \"$3\" > \"$2\" ;;\ncleanup) rm \"$2\" ;;\nesac\n"
	if err := os.WriteFile(program, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("EXEC_PATH", program)
	t.Setenv("EXEC_SEQUENCE_INTERVAL", "0")
	dns := dnstest.Start(t, dnstest.Options{Zones: []string{"zone.example."}, Dir: dir})
	p := proxytest.Start(t, proxytest.Options{
		Pebble: pebbletest.Options{Resolver: dns.Addr},
		Change: func(c *proxy.Config) {
			c.DNSProvider, c.DNSResolvers, c.DNSPropagation = "exec", []string{dns.Addr}, "resolvers"
		},
	})
	grants := []string{"zone.example", "wildcard:zone.example"}
	host := p.Enroll(t, "host", proxytest.Grant(clients.ModeAgent, grants...), proxytest.Grant(clients.ModeGateway, grants...))
	want := proxytest.Names(t, "zone.example", "*.zone.example")
	for _, mode := range []clients.Mode{clients.ModeAgent, clients.ModeGateway} {
		k, err := proxytest.Get(t, host, mode, want...)
		if err != nil {
			t.Fatal(err)
		}
		b, err := certfile.Read(k.Out)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := b.Names(); err != nil || !got.Equal(want) {
			t.Errorf("%s: certificate for %s, %v", mode, got, err)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if _, err := proxytest.Get(t, host, clients.ModeAgent, "*.other.example"); err == nil || !strings.Contains(err.Error(), "wildcard:other.example") {
		t.Errorf("a wildcard that is not granted: %v", err)
	}
}
