package issuer_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/acmeproxy/acmeproxy/internal/dnstest"
	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/challenge/dns01"
)

// X18: an instance that stops leaves the file of an order. The instance that
// continues the order removes it. An instance with its own database removes it at
// once.
func TestStoppedInstanceLeavesSharedAnswers(t *testing.T) {
	for name, change := range map[string]func(cfg *testConfig, root string){
		"webroot": func(cfg *testConfig, root string) { cfg.Webroot = root },
		"hook": func(cfg *testConfig, root string) {
			folder := filepath.Join(root, ".well-known", "acme-challenge")
			cfg.HTTPHook = fmt.Sprintf(`mkdir -p %[1]s && cd %[1]s || exit 9
case $ACMEPROXY_EVENT in
challenge-present) printf %%s "$CERTBOT_VALIDATION" > "$CERTBOT_TOKEN" ;;
challenge-remove) rm -f "$CERTBOT_TOKEN" ;;
esac`, folder)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			answers := func() int {
				left, err := os.ReadDir(filepath.Join(root, ".well-known", "acme-challenge"))
				if err != nil {
					t.Error(err)
				}
				return len(left)
			}
			var ts overrides
			e := startBehind(t, pebbletest.Options{Wrap: ts.wrap}, http.FileServer(http.Dir(root)), nil)
			another := func(agent string, shared bool) *instance {
				return e.another(t, func(cfg *testConfig) {
					change(cfg, root)
					cfg.UserAgent, cfg.Shared = agent, shared
				})
			}
			// The CA has not begun to validate when the first attempt ends.
			unwell := times(100, pebbletest.Challenge, func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
				w.Header().Set("Retry-After", "3600")
				return respond(503, "serverInternal")(w, r, next)
			})
			ts.set("one", unwell)
			one, two := another("one", true), another("two", true)
			var orderURL string
			req := journalled(t, name+".shared.example.com", &orderURL)
			if _, err := one.Issue(t.Context(), req, nil); err == nil {
				t.Fatal("issued")
			}
			ts.set("two", once(pebbletest.Challenge, func(http.ResponseWriter, *http.Request, http.Handler) bool {
				if err := one.Close(); err != nil || answers() != 1 { // the CA will fetch now
					t.Errorf("%v, %d answers while the other instance needs one", err, answers())
				}
				return false
			}))
			req.Order.URL = orderURL
			if _, err := two.Issue(t.Context(), req, nil); err != nil || answers() != 0 {
				t.Errorf("%v, %d answers left", err, answers())
			}

			ts.set("alone", unwell)
			alone := another("alone", false)
			req = journalled(t, name+".alone.example.com", &orderURL)
			if _, err := alone.Issue(t.Context(), req, nil); err == nil || answers() != 1 {
				t.Errorf("%v, %d answers", err, answers())
			}
			if err := alone.Close(); err != nil || answers() != 0 {
				t.Errorf("%v, %d answers left by an instance of its own", err, answers())
			}
		})
	}
}

// X18: an instance that continues another one's order publishes the same TXT
// value, so that the CA may query it at any time, and removes it.
func TestAnotherInstanceGivesSameDNSAnswer(t *testing.T) {
	for _, provider := range []string{"rfc2136", "exec"} {
		t.Run(provider, func(t *testing.T) {
			unsetProviders(t)
			opts := dnstest.Options{Key: tsigKey, Secret: tsigSecret}
			if provider == "exec" {
				_, opts.Dir = script(t, `
case $1 in
present) echo "$3" > "$2" ;;
cleanup) rm -f "$2" ;;
esac
`)
			}
			var ts overrides
			e, server := startDNS(t, provider, opts, nil, ts.wrap)
			another := func(agent string) *instance {
				return e.another(t, func(cfg *testConfig) {
					cfg.Challenge, cfg.UserAgent, cfg.Shared = acme.DNS01, agent, true
					cfg.DNS = &dns01.Config{Provider: provider, Getenv: os.Getenv, Resolvers: []string{server.Addr}, Port: server.Port}
				})
			}
			// The CA has not begun to validate when the first attempt ends.
			ts.set("one", times(100, pebbletest.Challenge, func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
				w.Header().Set("Retry-After", "3600")
				return respond(503, "serverInternal")(w, r, next)
			}))
			one, two := another("one"), another("two")
			defer two.Close()
			var orderURL string
			req := journalled(t, "zone.example", &orderURL)
			if _, err := one.Issue(t.Context(), req, nil); err == nil {
				t.Fatal("issued")
			}
			kept := server.TXT(txtName)
			if len(kept) != 1 {
				t.Fatalf("%q after the first attempt, want one value", kept)
			}
			ts.set("two", once(pebbletest.Challenge, func(http.ResponseWriter, *http.Request, http.Handler) bool {
				if err := one.Close(); err != nil { // the CA will fetch now
					t.Error(err)
				}
				if now := server.TXT(txtName); !slices.Equal(now, kept) {
					t.Errorf("the other instance publishes %q, want %q", now, kept)
				}
				return false
			}))
			req.Order.URL = orderURL
			if _, err := two.Issue(t.Context(), req, nil); err != nil {
				t.Fatal(err)
			}
			if left := server.TXT(txtName); len(left) != 0 {
				t.Errorf("left behind: %q", left)
			}
			if most := server.Most(txtName); provider == "rfc2136" && most != 1 {
				t.Errorf("%d values at one time, want 1", most)
			}
			if n := e.ca.Requests().Count(pebbletest.NewOrder); n != 1 {
				t.Errorf("%d orders, want 1", n)
			}
		})
	}
}
