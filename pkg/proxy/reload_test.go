package proxy_test

import (
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/internal/watch"
	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/config"
	"github.com/acmeproxy/acmeproxy/pkg/frontend/admin"
	"github.com/acmeproxy/acmeproxy/pkg/proxy"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
)

// file holds the settings that a test's proxy reads again.
type file struct {
	mu       sync.Mutex
	settings config.Serve
	hangup   chan os.Signal
	level    slog.LevelVar
}

// on makes a proxy read the file, which begins with its settings.
func (f *file) on(cfg *proxy.Config) {
	f.settings, f.hangup = cfg.Serve, make(chan os.Signal, 1)
	cfg.Hangup, cfg.LogLevel = f.hangup, &f.level
	cfg.Reread = func() (*config.Serve, error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		settings := f.settings
		return &settings, nil
	}
}

func (f *file) edit(change func(*config.Serve)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(&f.settings)
}

// X19: the command reports which settings have changed. They take effect, and files
// that settings name are read again.
func TestReload(t *testing.T) {
	t.Parallel()
	var f file
	p := proxytest.Start(t, proxytest.Options{Change: f.on})
	hook, key := proxytest.NewHookLog(t), filepath.Join(t.TempDir(), "hmac")
	f.edit(func(s *config.Serve) {
		s.Domains, s.CertificateObtainedHook = []string{"own.example.com"}, hook.Command()
		s.LogLevel, s.DefaultDailyQuota, s.MaxClientCertificates = "error", "1", 5
	})
	got, err := p.Admin.Reload(t.Context())
	want := []string{"domain", "certificate-obtained-hook", "max-client-certificates", "default-daily-quota", "log-level"}
	if err != nil || !slices.Equal(got.Changed, want) {
		t.Fatalf("changed %q, %v", got.Changed, err)
	}
	hook.Deployed(t, 1)
	if f.level.Level() != slog.LevelError {
		t.Errorf("the log's level is %v", f.level.Level())
	}
	web1 := p.Enroll(t, "web1", proxytest.Grant(clients.ModeGateway, "*.example.com"))
	if err := <-streamed(t, web1, "a.example.com"); err != nil {
		t.Error(err)
	}
	if err := <-streamed(t, web1, "b.example.com"); err == nil || !strings.Contains(err.Error(), "quota") {
		t.Errorf("the new quota does not count: %v", err)
	}

	f.edit(func(s *config.Serve) { s.EABKid, s.EABHMACKeyFile = "kid", key })
	for _, test := range []struct{ content, want string }{
		{"", "no such file"}, {"not base64 at all!", "eab"}, {"c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0", ""},
	} {
		if test.content != "" {
			if err := os.WriteFile(key, []byte(test.content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		_, err := p.Admin.Reload(t.Context())
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(strings.ToLower(err.Error()), test.want)) {
			t.Errorf("with the key %q: %v", test.content, err)
		}
	}
}

// X19: a file with a fault changes nothing, and so does one that needs a restart. The
// answer has all of it.
func TestReloadRefused(t *testing.T) {
	t.Parallel()
	var f file
	p := proxytest.Start(t, proxytest.Options{Change: f.on})
	host := p.Enroll(t, "web1", proxytest.Grant(clients.ModeGateway, "*.web1.example.com"))
	for _, test := range []struct {
		change func(*config.Serve)
		want   []string
	}{
		{func(s *config.Serve) { s.Email, s.KeyType = "ops", "dsa" }, []string{"email: ", "key-type: "}},
		{func(s *config.Serve) { s.HTTPSAddr, s.DataDir = "127.0.0.1:1", "/elsewhere" }, []string{"https-addr: a change needs a restart", "data-dir: a change needs a restart"}},
		{func(s *config.Serve) { s.DNSProvider = "exec" }, []string{"dns-provider: ", "EXEC_PATH"}},
		{func(s *config.Serve) { s.HTTP01Webroot = "/nowhere" }, []string{"http-01-webroot: "}},
		{func(s *config.Serve) { s.Domains = []string{"*.example.com"} }, []string{"--dns-provider"}},
	} {
		before := f.settings
		f.edit(func(s *config.Serve) {
			test.change(s)
			s.Domains = append(s.Domains, "own.example.com")
		})
		_, err := p.Admin.Reload(t.Context())
		f.edit(func(s *config.Serve) { *s = before })
		var refused *api.Problem
		if !errors.As(err, &refused) || refused.Status != http.StatusConflict {
			t.Errorf("want %q, got %v", test.want, err)
			continue
		}
		for _, want := range test.want {
			if !strings.Contains(refused.Detail, want) {
				t.Errorf("%q is not in %q", want, refused.Detail)
			}
		}
	}
	if err := <-streamed(t, host, "a.web1.example.com"); err != nil {
		t.Error(err)
	}
	if n := p.Orders(); n != 1 {
		t.Errorf("%d orders, want 1", n)
	}
	if status, err := p.Admin.Status(t.Context()); err != nil || len(status.Certificates) != 0 {
		t.Errorf("%v, certificates of a refused file: %+v", err, status.Certificates)
	}
}

// X19: if the database refuses one name of the new settings, the rows of the others
// are undone. No certificate of a refused file is ordered.
func TestRefusedNamesAreUndone(t *testing.T) {
	t.Parallel()
	var f file
	p := proxytest.Start(t, proxytest.Options{Change: func(cfg *proxy.Config) {
		cfg.Domains = []string{"present.example.com"}
		f.on(cfg)
	}})
	watch.Until(t, "the present certificate", func() bool { return p.Own(t, "present.example.com").Serial != "" })
	p.Managed(t, "web1", "taken.example.com")
	orders := p.Orders()
	f.edit(func(s *config.Serve) { s.Domains = []string{"new.example.com", "taken.example.com"} })
	if _, err := p.Admin.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "taken.example.com") {
		t.Fatal(err)
	}
	all, err := p.Admin.Certificates(t.Context(), admin.CertificateQuery{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		if due := !c.NextAttempt.IsZero(); due != !slices.Contains(c.Names, "new.example.com") {
			t.Errorf("%q is due: %v", c.Names, due)
		}
	}
	p.Tick(t)
	if n := p.Orders(); n != orders {
		t.Errorf("%d orders for names of a refused file", n-orders)
	}
}

// X19: a name that is removed while its attempt is in flight is not renewed later. The
// attempt finishes.
func TestRemovedWhileInFlight(t *testing.T) {
	t.Parallel()
	for _, succeeds := range []bool{true, false} {
		t.Run(strconv.FormatBool(succeeds), func(t *testing.T) {
			t.Parallel()
			var ca pebbletest.Fault
			var f file
			p := proxytest.Start(t, proxytest.Options{Pebble: pebbletest.Options{Wrap: ca.Wrap}, Change: f.on})
			arrived, release := ca.Hold(t, pebbletest.Finalize)
			f.edit(func(s *config.Serve) { s.Domains = []string{"own.example.com"} })
			f.hangup <- os.Interrupt // any value
			watch.Await(t, "the CA is asked", arrived)
			f.edit(func(s *config.Serve) { s.Domains = nil })
			closed, err := p.Replace(t.Context(), f.settings)
			if err != nil {
				t.Fatal(err)
			}
			if !succeeds {
				ca.Fail(http.StatusForbidden, pebbletest.Finalize)
			}
			release()
			watch.Await(t, "the attempt has ended", closed)
			all, err := p.Admin.Certificates(t.Context(), admin.CertificateQuery{})
			if err != nil || len(all) != 1 {
				t.Fatalf("%+v, %v", all, err)
			}
			if c := all[0]; !c.NextAttempt.IsZero() || (c.Serial != "") != succeeds {
				t.Errorf("%+v", c)
			}
		})
	}
}

// X19: the answer of an order that will be continued outlives the settings with which
// it was published. A long poll with the new settings is woken by the old job.
func TestKeptAnswerOutlivesSettings(t *testing.T) {
	t.Parallel()
	var ca pebbletest.Fault
	var f file
	var clock proxytest.Clock
	p := proxytest.Start(t, proxytest.Options{Pebble: pebbletest.Options{Wrap: ca.Wrap}, Change: clock.On(f.on)})
	id, recipient := proxytest.NewIdentity(t)
	web1 := p.NewCaller(t, "web1", []string{recipient}, proxytest.Grant(clients.ModeAgent, "*.example.com"))
	arrived, release := ca.Hold(t, pebbletest.Challenge)
	m := web1.Register(t, "a.example.com")
	watch.Await(t, "the answer is published", arrived)
	closed, err := p.Replace(t.Context(), f.settings)
	if err != nil {
		t.Fatal(err)
	}
	polled := make(chan time.Duration, 1)
	go func() {
		start := time.Now()
		if _, err := web1.Try(t, http.MethodGet, api.PathCertificates+"/"+m.ID+"/bundle?wait=120s", nil); err != nil {
			t.Errorf("the long poll: %v", err)
		}
		polled <- time.Since(start)
	}()
	ca.Set(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if pebbletest.Kind(r) != pebbletest.Challenge {
			next.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Retry-After", "3600")
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	release()
	watch.Await(t, "the earlier settings are closed", closed)
	if took := <-polled; took > time.Minute {
		t.Errorf("the failure woke the long poll after %v", took)
	}
	if n := p.Answers(); n != 1 {
		t.Errorf("%d answers of the order that will be continued", n)
	}
	ca.PassAll()
	clock.Advance(2 * time.Hour)
	p.Tick(t)
	proxytest.OpenBundle(t, web1.Bundle(t, m.ID, "").Body, proxytest.Names(t, "a.example.com"), id)
	if n, orders := p.Answers(), p.Orders(); n != 0 || orders != 1 {
		t.Errorf("%d answers left, %d orders", n, orders)
	}
}
