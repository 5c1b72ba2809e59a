package issuer_test

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/issuer"
	"github.com/acmeproxy/acmeproxy/pkg/responder"
)

// startTLS is start with TLS-ALPN-01 on the CA's port 443.
func startTLS(t testing.TB, wrap ...func(http.Handler) http.Handler) (*env, *responder.TLSALPN) {
	t.Helper()
	answers := responder.NewTLSALPN()
	var opts pebbletest.Options
	for _, w := range wrap {
		opts.Wrap = w
	}
	e := start(t, opts, func(cfg *testConfig) {
		cfg.Challenge, cfg.TLSALPN, cfg.Responder = acme.TLSALPN01, answers, nil
	})
	l, err := tls.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", e.ca.TLSPort), &tls.Config{
		MinVersion: tls.VersionTLS13, GetConfigForClient: answers.Config,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, errors.New("nothing else here") },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_ = c.(*tls.Conn).Handshake()
			}()
		}
	}()
	return e, answers
}

// RFC 8737: several names in one order, one request for each authorization
// more than HTTP-01 costs, nothing left behind (D15).
func TestTLSALPN(t *testing.T) {
	e, answers := startTLS(t)
	if _, err := e.issuer.Issue(t.Context(), ec(names(t, "warm.example.com")), nil); err != nil {
		t.Fatal(err)
	}
	var totals []int
	for round := range 9 {
		e.ca.Requests().Reset()
		n := names(t, fmt.Sprintf("a%d.example.com", round), fmt.Sprintf("b%d.example.com", round))
		if _, err := e.issuer.Issue(t.Context(), ec(n), nil); err != nil {
			t.Fatal(err)
		}
		totals = append(totals, e.ca.Requests().Total())
	}
	if slices.Min(totals) != 11 { // a poll that comes too soon costs one more
		t.Errorf("two names cost %v requests, want 11 at best", totals)
	}
	if n := answers.Len(); n != 0 {
		t.Errorf("%d certificates are still served", n)
	}
}

// A CA asks by name alone, so orders for the same name take turns.
func TestTLSALPNSameNameAtOnce(t *testing.T) {
	e, _ := startTLS(t)
	var g errgroup.Group
	for range 4 {
		g.Go(func() error {
			_, err := e.issuer.Issue(t.Context(), ec(names(t, "same.example.com")), nil)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
}

// X4: addresses and the requested profile reach the CA, with both challenges for
// addresses (RFC 8738).
func TestAddressAndProfile(t *testing.T) {
	var orders orderLog
	answers := responder.NewTLSALPN()
	for _, challenge := range []string{acme.HTTP01, acme.TLSALPN01} {
		t.Run(challenge, func(t *testing.T) {
			e := start(t, pebbletest.Options{
				Profiles: map[string]time.Duration{"classic": 90 * 24 * time.Hour, "shortlived": 160 * time.Hour},
				Wrap:     orders.wrap,
			}, func(cfg *testConfig) { cfg.Challenge, cfg.TLSALPN = challenge, answers })
			l, err := tls.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", e.ca.TLSPort), &tls.Config{MinVersion: tls.VersionTLS13, GetConfigForClient: answers.Config})
			if err != nil {
				t.Fatal(err)
			}
			server := &http.Server{ReadHeaderTimeout: time.Minute}
			defer server.Close()
			go server.Serve(l)
			req := ec(names(t, "127.0.0.1"))
			req.Profile = "shortlived"
			b, err := e.issuer.Issue(t.Context(), req, nil)
			if err != nil {
				t.Fatal(err)
			}
			if len(b.Leaf.IPAddresses) != 1 || !b.Leaf.IPAddresses[0].Equal(net.IPv4(127, 0, 0, 1)) {
				t.Errorf("addresses %v", b.Leaf.IPAddresses)
			}
			if life := b.Leaf.NotAfter.Sub(b.Leaf.NotBefore).Round(time.Hour); life != 160*time.Hour {
				t.Errorf("valid for %v, want 160h", life)
			}
			if got := orders.last(); got != `[{ip 127.0.0.1}] shortlived` {
				t.Errorf("the CA saw %s", got)
			}
		})
	}
}

// orderLog records the contents of newOrder requests.
type orderLog struct {
	mu    sync.Mutex
	lines []string // guarded by mu
}

func (o *orderLog) last() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.lines) == 0 {
		return ""
	}
	return o.lines[len(o.lines)-1]
}

func (o *orderLog) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if pebbletest.Kind(r) == pebbletest.NewOrder {
			body, _ := io.ReadAll(r.Body)
			r.Body = io.NopCloser(bytes.NewReader(body))
			var jws struct{ Payload string }
			var order struct {
				Identifiers []struct{ Type, Value string }
				Profile     string
			}
			_ = json.Unmarshal(body, &jws)
			payload, _ := base64.RawURLEncoding.DecodeString(jws.Payload)
			_ = json.Unmarshal(payload, &order)
			o.mu.Lock()
			o.lines = append(o.lines, fmt.Sprint(order.Identifiers, " ", order.Profile))
			o.mu.Unlock()
		}
		next.ServeHTTP(w, r)
	})
}

// X4: only profiles that the directory lists, refused before an order.
func TestUnknownProfile(t *testing.T) {
	e := start(t, pebbletest.Options{Profiles: map[string]time.Duration{"classic": time.Hour * 24, "shortlived": time.Hour}}, nil)
	req := ec(names(t, "profile.example.com"))
	req.Profile = "no-such"
	var field *cert.FieldError
	err := e.issuer.Check(t.Context(), req)
	if !errors.As(err, &field) || field.Field != "profile" || !strings.Contains(err.Error(), "classic, shortlived") {
		t.Errorf("Check: %v", err)
	}
	_, err = e.issuer.Issue(t.Context(), req, nil)
	var failed *acme.Error
	if !errors.As(err, &failed) || failed.Kind != acme.Permanent || !strings.Contains(err.Error(), "classic, shortlived") {
		t.Errorf("Issue: %v", err)
	}
	if n := e.ca.Requests().Count(pebbletest.NewOrder); n != 0 {
		t.Errorf("%d orders", n)
	}
	req.Profile = "classic"
	if err := e.issuer.Check(t.Context(), req); err != nil {
		t.Error(err)
	}
	// While the CA is unreachable, Issue decides.
	away, err := newInstance(testConfig{Responder: newResponder(), CAConfig: issuer.CAConfig{DirectoryURL: "https://127.0.0.1:1/dir", Accounts: &memoryAccounts{}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := away.Check(t.Context(), req); err != nil {
		t.Error(err)
	}
}

// D15: a hook publishes the answer on another web server with certbot's variables,
// and removes it. It does not get the proxy's own settings.
func TestHTTPHook(t *testing.T) {
	root := t.TempDir()
	t.Setenv("ACMEPROXY_EAB_HMAC_KEY_FILE", "/etc/secret")
	t.Setenv("HOOK_ROOT", root)
	web := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, _ := net.SplitHostPort(r.Host)
		http.ServeFile(w, r, filepath.Join(root, host+" "+filepath.Base(r.URL.Path)))
	})
	e := startBehind(t, pebbletest.Options{}, web, func(cfg *testConfig) {
		cfg.HTTPHook = `cd "$HOOK_ROOT" && test -z "$ACMEPROXY_EAB_HMAC_KEY_FILE" || exit 9
file="$CERTBOT_DOMAIN $CERTBOT_TOKEN"
case $ACMEPROXY_EVENT in
challenge-present) printf %s "$CERTBOT_VALIDATION" > "$file" ;;
challenge-remove) rm "$file" ;;
esac`
	})
	if _, err := e.issuer.Issue(t.Context(), ec(names(t, "web.example.com", "www.example.com")), nil); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(root); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// A hook that fails is asked to remove the answer. Its output is not reported, and
// the CA gets no request to validate.
func TestHTTPHookFails(t *testing.T) {
	calls := filepath.Join(t.TempDir(), "calls")
	t.Setenv("CALLS", calls)
	e := start(t, pebbletest.Options{}, func(cfg *testConfig) {
		cfg.HTTPHook = `echo "$ACMEPROXY_EVENT" >> "$CALLS"; echo the password is 1234; exit 7`
	})
	_, err := e.issuer.Issue(t.Context(), ec(names(t, "web.example.com")), nil)
	if err == nil || !strings.Contains(err.Error(), "http-01-hook: exited with code 7") || strings.Contains(err.Error(), "1234") {
		t.Errorf("got %v", err)
	}
	if got, err := os.ReadFile(calls); err != nil || string(got) != "challenge-present\nchallenge-remove\n" {
		t.Errorf("calls %q, %v", got, err)
	}
	if n := e.ca.Requests().Count(pebbletest.Challenge); n != 0 {
		t.Errorf("the CA was told to validate %d times", n)
	}
}

// The preferred chain is found by the name of its topmost issuer; others are
// fetched only when the default is not the one.
func TestPreferredChain(t *testing.T) {
	e := start(t, pebbletest.Options{AlternateRoots: 2}, nil)
	for _, test := range []struct {
		prefer string
		want   string
		least  int // requests for chains
		most   int
	}{
		{"", e.ca.Issuers[0], 1, 1},
		{e.ca.Issuers[0], e.ca.Issuers[0], 1, 1},
		{e.ca.Issuers[2], e.ca.Issuers[2], 2, 3},
		{"Unknown Root", e.ca.Issuers[0], 3, 3},
	} {
		is := e.another(t, func(cfg *testConfig) { cfg.PreferredChain = test.prefer })
		e.ca.Requests().Reset()
		b, err := is.Issue(t.Context(), ec(names(t, "chain.example.com")), nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := b.Chain[len(b.Chain)-1].Issuer.CommonName; got != test.want {
			t.Errorf("prefer %q: got %q, want %q", test.prefer, got, test.want)
		}
		if n := e.ca.Requests().Count(pebbletest.Certificate); n < test.least || n > test.most {
			t.Errorf("prefer %q: %d chains fetched, want %d to %d", test.prefer, n, test.least, test.most)
		}
	}
}
