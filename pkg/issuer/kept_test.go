package issuer_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/pkg/issuer"
	"github.com/acmeproxy/acmeproxy/pkg/peers"
)

// X18: an instance that stops leaves the file of an order that another one
// continues, by which it is removed. An instance with a database of its own
// removes it at once.
func TestStoppedInstanceLeavesSharedAnswers(t *testing.T) {
	for name, change := range map[string]func(cfg *issuer.Config, root string){
		"webroot": func(cfg *issuer.Config, root string) { cfg.Webroot = root },
		"hook": func(cfg *issuer.Config, root string) {
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
			var ts troubles
			e := startBehind(t, pebbletest.Options{Wrap: ts.wrap}, http.FileServer(http.Dir(root)), nil)
			instance := func(agent string, p *peers.Peers) *issuer.Issuer {
				return e.another(t, func(cfg *issuer.Config) {
					change(cfg, root)
					cfg.UserAgent, cfg.Peers = agent, p
				})
			}
			// The CA has not begun to validate when the first attempt ends.
			unwell := times(100, pebbletest.Challenge, func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
				w.Header().Set("Retry-After", "3600")
				return says(503, "serverInternal")(w, r, next)
			})
			ts.set("one", unwell)
			one, two := instance("one", &peers.Peers{}), instance("two", &peers.Peers{})
			var orderURL string
			req := journalled(t, name+".shared.example.com", &orderURL)
			if _, err := one.Issue(t.Context(), req, nil); err == nil {
				t.Fatal("issued")
			}
			ts.set("two", once(pebbletest.Challenge, func(http.ResponseWriter, *http.Request, http.Handler) bool {
				if err := one.Close(); err != nil || answers() != 1 { // the CA will look now
					t.Errorf("%v, %d answers while the other instance needs one", err, answers())
				}
				return false
			}))
			req.OrderURL = orderURL
			if _, err := two.Issue(t.Context(), req, nil); err != nil || answers() != 0 {
				t.Errorf("%v, %d answers left", err, answers())
			}

			ts.set("alone", unwell)
			alone := instance("alone", nil)
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
