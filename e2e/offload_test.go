package e2e

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	legocert "github.com/go-acme/lego/v4/certificate"
	"github.com/go-acme/lego/v4/lego"
	"github.com/go-acme/lego/v4/registration"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
	"github.com/acmeproxy/acmeproxy/pkg/remote"
)

// offloadClient gets a certificate for names from the CA itself, with an account of its
// own. The proxy answers its challenges.
type offloadClient struct {
	name     string
	programs []string // that must be installed
	issue    func(ctx context.Context, t *testing.T, o *offloaded, names ...string) ([]*certificate, error)
}

// offloaded is the place of one client on an internal host.
type offloaded struct {
	*site
	host *remote.State
	env  []string
}

var offloadClients = []offloadClient{
	{"certbot", []string{"certbot"}, offloadCertbot},
	{"dehydrated", []string{"dehydrated", "openssl", "curl"}, offloadDehydrated("no")},
	{"dehydrated-chain", []string{"dehydrated", "openssl", "curl"}, offloadDehydrated("yes")},
	{"uacme", []string{"uacme", "unshare"}, offloadUacme},
	{"lego", nil, offloadLego},
}

// TestOffload gets certificates with the stock clients and the hooks of contrib/. The CA
// reaches only the proxy (X2).
func TestOffload(t *testing.T) {
	t.Parallel()
	p := proxytest.Start(t, proxytest.Options{Pebble: pebbletest.Options{Wrap: withTokens}})
	bin := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(bin, "acmeproxy"), ".")
	build.Dir = ".."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(p.CA.RootsPEM)
	path := "PATH=" + bin + string(os.PathListSeparator) + os.Getenv("PATH")
	t.Run("clients", func(t *testing.T) {
		for _, c := range append(offloadClients, acmeSh()...) {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				for _, program := range c.programs {
					pebbletest.Tool(t, program)
				}
				ctx, cancel := context.WithTimeout(t.Context(), storyLimit)
				defer cancel()
				s := newSite(t, kind{name: c.name}, true)
				s.directory, s.roots = p.CA.DirectoryURL, roots
				s.setTrust(t, p.CA.ServerCAPEM)
				host := p.Enroll(t, c.name, proxytest.Grant(clients.ModeChallenge, "**."+s.domain))
				o := &offloaded{s, host, []string{path, "ACMEPROXY_STATE_DIR=" + host.Dir}}
				for _, names := range [][]string{s.names("one"), s.three} {
					certs, err := c.issue(ctx, t, o, names...)
					if err != nil {
						t.Fatalf("%v: %v", names, err)
					}
					if !hasAll(certs, names) {
						t.Fatalf("%v: other names", names)
					}
					if err := certs[0].verify(s.roots, names[0]); err != nil {
						t.Fatal(err)
					}
				}
				if n := p.Audited(t, c.name, "challenge present", "allowed"); n != 4 {
					t.Errorf("%d answers in the audit trail", n)
				}
				if _, err := c.issue(ctx, t, o, "other.example.com"); err == nil {
					t.Error("a certificate for a name without a grant")
				}
			})
		}
	})
	if n := p.Answers(); n != 0 {
		t.Errorf("%d answers are left", n)
	}
}

// withTokens removes the challenges without a token, which Debian's uacme cannot parse.
func withTokens(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if pebbletest.Kind(r) != pebbletest.Authorization {
			next.ServeHTTP(w, r)
			return
		}
		rec := httptest.NewRecorder()
		next.ServeHTTP(rec, r)
		body := rec.Body.Bytes()
		var authorization map[string]any
		if json.Unmarshal(body, &authorization) == nil {
			all, _ := authorization["challenges"].([]any)
			authorization["challenges"] = slices.DeleteFunc(all, func(c any) bool {
				fields, _ := c.(map[string]any)
				return fields["token"] == nil
			})
			body, _ = json.Marshal(authorization) // it was decoded
		}
		maps.Copy(w.Header(), rec.Header())
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		w.WriteHeader(rec.Code)
		_, _ = w.Write(body)
	})
}

// hook returns the path of a file in contrib/challenge-only.
func hook(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("..", "contrib", "challenge-only", name))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func offloadCertbot(ctx context.Context, t *testing.T, o *offloaded, names ...string) ([]*certificate, error) {
	args := []string{
		"certonly", "--manual", "--preferred-challenges", "http", "--cert-name", names[0],
		"--manual-auth-hook", hook(t, "certbot-hook") + " present",
		"--manual-cleanup-hook", hook(t, "certbot-hook") + " withdraw",
		"--config-dir", o.path("etc"), "--work-dir", o.path("work"), "--logs-dir", o.path("logs"),
		"--non-interactive", "--agree-tos", "--register-unsafely-without-email", "--server", o.directory,
	}
	for _, name := range names {
		args = append(args, "--domain", name)
	}
	if err := o.run(ctx, append(o.env, "REQUESTS_CA_BUNDLE="+o.trust), "certbot", args...); err != nil {
		return nil, err
	}
	return one(o.path("etc", "live", names[0], "fullchain.pem"), o.path("etc", "live", names[0], "privkey.pem"))
}

func offloadDehydrated(chain string) func(context.Context, *testing.T, *offloaded, ...string) ([]*certificate, error) {
	return func(ctx context.Context, t *testing.T, o *offloaded, names ...string) ([]*certificate, error) {
		config := fmt.Sprintf(`
CA=%q
CURL_OPTS="--cacert %s"
BASEDIR=%q
WELLKNOWN=%q
CHALLENGETYPE=http-01
ACCOUNT_KEYSIZE=2048
ACCOUNT_KEY_ALGO=rsa
KEY_ALGO=prime256v1
HOOK=%q
HOOK_CHAIN=%s
`, o.directory, o.trust, o.dir, o.dir, hook(t, "dehydrated-hook"), chain)
		if err := o.write("config", config, 0o600); err != nil {
			return nil, err
		}
		if err := o.run(ctx, o.env, "dehydrated", "--register", "--accept-terms", "--config", o.path("config")); err != nil {
			return nil, err
		}
		if err := o.run(ctx, o.env, "dehydrated", "--cron", "--domain", strings.Join(names, " "), "--config", o.path("config")); err != nil {
			return nil, err
		}
		return one(o.path("certs", names[0], "fullchain.pem"), o.path("certs", names[0], "privkey.pem"))
	}
}

func offloadUacme(ctx context.Context, t *testing.T, o *offloaded, names ...string) ([]*certificate, error) {
	script := `mount --bind "$0" ` + hostRoots + ` && exec uacme "$@"`
	wrapped := []string{
		"--map-root-user", "--mount", "sh", "-c", script, o.trust,
		"--confdir", o.path("uacme"), "--acme-url", o.directory, "--yes", "--type", "EC", "--hook", hook(t, "uacme-hook"), "--no-ocsp",
	}
	if _, err := os.Stat(o.path("uacme")); os.IsNotExist(err) {
		if err := o.run(ctx, o.env, "unshare", append(wrapped, "new", "admin@example.com")...); err != nil {
			return nil, err
		}
	}
	if err := o.run(ctx, o.env, "unshare", append(append(wrapped, "issue"), names...)...); err != nil {
		return nil, err
	}
	return one(o.path("uacme", names[0], "cert.pem"), o.path("uacme", "private", names[0], "key.pem"))
}

// acmeProxyProvider is the provider of docs/challenge-only.md for programs that use lego's
// package.
type acmeProxyProvider struct{ client *remote.Client }

func (p acmeProxyProvider) Present(domain, token, keyAuth string) error {
	_, err := p.client.Present(context.Background(), domain, token, keyAuth)
	return err
}

func (p acmeProxyProvider) CleanUp(domain, token, _ string) error {
	return p.client.Withdraw(context.Background(), domain, token)
}

// offloadLego uses the package of lego, because its program has no hook for http-01.
func offloadLego(_ context.Context, t *testing.T, o *offloaded, names ...string) ([]*certificate, error) {
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	user := &legoUser{key: key}
	config := lego.NewConfig(user)
	config.CADirURL, config.HTTPClient = o.directory, o.http(t)
	l, err := lego.NewClient(config)
	if err != nil {
		return nil, err
	}
	if user.resource, err = l.Registration.Register(registration.RegisterOptions{TermsOfServiceAgreed: true}); err != nil {
		return nil, err
	}
	api, err := o.host.API()
	if err != nil {
		return nil, err
	}
	if err := l.Challenge.SetHTTP01Provider(acmeProxyProvider{api}); err != nil {
		return nil, err
	}
	got, err := l.Certificate.Obtain(legocert.ObtainRequest{Domains: names, Bundle: true})
	if err != nil {
		return nil, err
	}
	c, err := newCertificate(got.Certificate, got.PrivateKey)
	return []*certificate{c}, err
}

// acmeSh returns the client acme.sh, which Debian does not package, if the environment
// names its program.
func acmeSh() []offloadClient {
	program := os.Getenv("ACMEPROXY_TEST_ACME_SH")
	if program == "" {
		return nil
	}
	issue := func(ctx context.Context, t *testing.T, o *offloaded, names ...string) ([]*certificate, error) {
		if err := o.write("account.conf", ". "+hook(t, "acme.sh-hook")+"\n", 0o600); err != nil {
			return nil, err
		}
		args := []string{
			program, "--issue", "--standalone", "--server", o.directory, "--ca-bundle", o.trust,
			"--home", o.dir, "--httpport", fmt.Sprint(o.port),
		}
		for _, name := range names {
			args = append(args, "-d", name)
		}
		if err := o.run(ctx, o.env, "sh", args...); err != nil {
			return nil, err
		}
		return one(o.path(names[0]+"_ecc", "fullchain.cer"), o.path(names[0]+"_ecc", names[0]+".key"))
	}
	return []offloadClient{{"acme-sh", nil, issue}}
}
