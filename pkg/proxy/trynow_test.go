package proxy_test

import (
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/internal/watch"
	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/proxy"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
)

// A start tries failing certificates at once, but a crash loop only three times an
// hour. One attempt is left to people. Tries do not delay the proxy's own next attempt,
// and do not count for its delays (X44).
func TestStartTriesFailing(t *testing.T) {
	t.Parallel()
	var clk proxytest.Clock
	var ca pebbletest.Fault
	p := proxytest.Start(t, proxytest.Options{Change: clk.On(), Pebble: pebbletest.Options{Wrap: ca.Wrap}})
	ca.Set(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if pebbletest.Kind(r) != pebbletest.NewOrder {
			next.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusBadRequest)
		io.WriteString(w, `{"type": "urn:ietf:params:acme:error:rejectedIdentifier", "detail": "no"}`)
	})
	_, recipient := proxytest.NewIdentity(t)
	c := p.NewCaller(t, "web1", []string{recipient}, proxytest.Grant(clients.ModeAgent, "**.example.com"))
	m := c.Register(t, "a.example.com")
	failed := func(n int) {
		t.Helper()
		watch.Until(t, "an attempt failed", func() bool {
			m = p.WithToken(t, c.Token).Certificate(t, m.ID)
			return strings.Count(p.Log(), "no certificate yet") == n && !m.Attempting && m.NextAttempt.After(clk.Now())
		})
	}
	failed(1)
	planned := *m.NextAttempt
	for i := range 6 {
		p.Restart(t, clk.On())
		failed(min(i+2, 4))
	}
	if r := p.WithToken(t, c.Token).Do(t, http.MethodPost, api.PathCertificates+"/"+m.ID+"/renew", nil); r.Status != http.StatusAccepted {
		t.Errorf("a person after the crash loop: %d %s", r.Status, r.Body)
	}
	failed(5)
	if m.Failures != 1 || !m.NextAttempt.Equal(planned) {
		t.Errorf("after the tries: %d failures, due at %v, want %v", m.Failures, m.NextAttempt, planned)
	}
	_, err := p.RenewNow(t.Context(), m.ID)
	var early *managed.NotNow
	if !errors.As(err, &early) || early.Reason != managed.TriesUsed {
		t.Errorf("the administrator's attempt is the fifth: %v", err)
	}
}

// A hook that was fixed runs at the next start and reload, not at its own time (X44).
func TestStartTriesHooks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	fixed, ran := filepath.Join(dir, "fixed"), filepath.Join(dir, "ran")
	p := proxytest.Start(t, proxytest.Options{Change: func(c *proxy.Config) {
		c.Domains, c.CertificateObtainedHook = []string{"own.example.com"}, "test -e "+fixed+" && echo >>"+ran
	}})
	waits := func() {
		t.Helper()
		watch.Until(t, "the hook failed", func() bool {
			d := p.Own(t, "own.example.com").Deployment
			return d != nil && d.Failures > 0 && d.RunBy == ""
		})
	}
	waits()
	if err := os.WriteFile(fixed, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	p.TryNow(t.Context())
	watch.Until(t, "the hook ran", func() bool { _, err := os.Stat(ran); return err == nil })
	watch.Until(t, "it is done", func() bool { return p.Own(t, "own.example.com").Deployment == nil })
}
