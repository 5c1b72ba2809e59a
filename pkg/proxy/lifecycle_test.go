package proxy_test

import (
	"encoding/json"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/internal/watch"
	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/config"
	"github.com/acmeproxy/acmeproxy/pkg/proxy"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
	"github.com/acmeproxy/acmeproxy/pkg/remote"
	"github.com/acmeproxy/acmeproxy/pkg/work"
)

// The CA's account is created once and survives restarts, as does everything that
// clients know about the proxy (A28).
func TestRestartKeepsAccount(t *testing.T) {
	t.Parallel()
	p := proxytest.Start(t, proxytest.Options{})
	host := p.Enroll(t, "web1", proxytest.Grant(clients.ModeGateway, "*.example.com"))
	for range 3 {
		if _, err := proxytest.Get(t, host, clients.ModeGateway, "a.example.com"); err != nil {
			t.Fatal(err)
		}
		p.Restart(t)
	}
	if n := p.CA.Requests().Count(pebbletest.NewAccount); n != 1 {
		t.Errorf("%d accounts were asked for, want 1", n)
	}
	if n := strings.Count(p.Log(), "registered at the CA"); n != 1 {
		t.Errorf("registered %d times", n)
	}
}

// After SIGTERM during an issuance, no new work starts, work in flight finishes, and
// port 80 answers until then (A36).
func TestStopFinishesWhatIsInFlight(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{pebbletest.NewOrder, pebbletest.Challenge, pebbletest.Finalize} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			var ca pebbletest.Fault
			p := proxytest.Start(t, proxytest.Options{Pebble: pebbletest.Options{Wrap: ca.Wrap}})
			url := p.URL
			host := p.Enroll(t, "web1", proxytest.Grant(clients.ModeGateway, "*.web1.example.com"))
			id, recipient := proxytest.NewIdentity(t)
			agent := p.NewCaller(t, "web2", []string{recipient}, proxytest.Grant(clients.ModeAgent, "*.web2.example.com"))
			issued := streamed(t, host, "a.web1.example.com")
			<-issued // an account and a finished order, so that the next can be held
			arrived, release := ca.Hold(t, kind)
			m := agent.Register(t, "a.web2.example.com")
			issued = streamed(t, host, "b.web1.example.com")
			watch.Await(t, "the CA is asked", arrived)
			polled := make(chan proxytest.Reply, 1)
			go func() {
				r, err := agent.Try(t, http.MethodGet, api.PathCertificates+"/"+m.ID+"/bundle?wait=60s", nil)
				if err != nil {
					r.Status = http.StatusServiceUnavailable // it came too late
				}
				polled <- r
			}()
			watch.Until(t, "both orders are held", func() bool { return p.CA.Requests().Count(kind) >= 3 })

			stopped := make(chan struct{})
			go func() {
				defer close(stopped)
				p.Stop(t)
			}()
			watch.Until(t, "no new connection is taken", func() bool {
				conn, err := net.Dial("tcp", strings.TrimPrefix(url, "https://"))
				if err == nil {
					conn.Close()
				}
				return err != nil
			})
			if r := <-polled; r.Status != http.StatusNotFound && r.Status != http.StatusServiceUnavailable {
				t.Errorf("the long poll ended with %d", r.Status)
			}
			select {
			case <-stopped:
				t.Error("the proxy did not wait for what is in flight")
			default:
			}
			release()
			if err := <-issued; err != nil {
				t.Errorf("the gateway's client: %v", err)
			}
			watch.Await(t, "the proxy has stopped", stopped)

			p.Restart(t)
			proxytest.OpenBundle(t, agent.Bundle(t, m.ID, "").Body, proxytest.Names(t, "a.web2.example.com"), id)
			if n := p.CA.Requests().Count(pebbletest.NewOrder); n != 3 {
				t.Errorf("%d orders, want 3", n)
			}
		})
	}
}

// streamed obtains a certificate through the gateway.
func streamed(t testing.TB, host *remote.State, list ...string) <-chan error {
	t.Helper()
	client, err := host.API()
	if err != nil {
		t.Fatal(err)
	}
	wanted := proxytest.Names(t, list...)
	done := make(chan error, 1)
	go func() {
		_, err := client.Issue(t.Context(), cert.Request{Names: wanted, KeyType: cert.EC256}, nil)
		done <- err
	}()
	return done
}

// settings returns settings for a proxy that is started without proxytest.
func settings(dir string, change func(*proxy.Config)) proxy.Config {
	cfg := proxy.Config{Serve: config.DefaultServe(), Version: "test", Getenv: os.Getenv}
	cfg.DataDir = dir
	cfg.HTTPAddr, cfg.HTTPSAddr = "127.0.0.1:0", "127.0.0.1:0"
	cfg.ACMEDirectoryURL = "https://127.0.0.1:1/dir"
	cfg.AcceptTOS = true
	if change != nil {
		change(&cfg)
	}
	return cfg
}

// openBelow counts this process's open files in a folder.
func openBelow(t testing.TB, dir string) (open []string) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skipf("SKIP: nothing shows which files are open: %v", err)
	}
	for _, fd := range fds {
		if target, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && strings.HasPrefix(target, dir) {
			open = append(open, target)
		}
	}
	return open
}

// A failed start reports the cause in one line and leaves nothing open. A running
// proxy is not disturbed (A37).
func TestStartIsRefused(t *testing.T) {
	t.Parallel()
	p := proxytest.Start(t, proxytest.Options{})
	garbage := []byte(strings.Repeat("this is no database ", 1000))
	for what, start := range map[string]struct {
		prepare func(dir string) error
		change  func(*proxy.Config)
		want    []string
	}{
		"second instance": {
			change: func(c *proxy.Config) { c.DataDir = p.DataDir },
			want:   []string{"data-dir", "another acmeproxy serve", "set another data-dir"},
		},
		"https port in use": {
			change: func(c *proxy.Config) { c.HTTPSAddr = p.HTTPSAddr() },
			want:   []string{"https-addr", p.HTTPSAddr(), "in use", "set another https-addr"},
		},
		"http port in use": {
			change: func(c *proxy.Config) { c.HTTPAddr = p.HTTPAddr() },
			want:   []string{"http-addr", p.HTTPAddr(), "in use", "set another http-addr"},
		},
		"address of another host": {
			change: func(c *proxy.Config) { c.HTTPAddr = "192.0.2.1:80" },
			want:   []string{"http-addr", "192.0.2.1:80", "set another http-addr"},
		},
		"file in the way": {
			prepare: func(dir string) error { return os.WriteFile(filepath.Join(dir, "file"), nil, 0o600) },
			change:  func(c *proxy.Config) { c.DataDir = filepath.Join(c.DataDir, "file") },
			want:    []string{"data-dir", "/file", "set another data-dir"},
		},
		"file in the path": {
			prepare: func(dir string) error { return os.WriteFile(filepath.Join(dir, "file"), nil, 0o600) },
			change:  func(c *proxy.Config) { c.DataDir = filepath.Join(c.DataDir, "file", "data") },
			want:    []string{"data-dir", "not a directory", "set another data-dir"},
		},
		"lock in the way": {
			prepare: func(dir string) error { return os.Mkdir(filepath.Join(dir, "lock"), 0o700) },
			want:    []string{"data-dir", "cannot write", "set another data-dir"},
		},
		"no database": {
			prepare: func(dir string) error { return os.WriteFile(filepath.Join(dir, "acmeproxy.db"), garbage, 0o600) },
			want:    []string{"acmeproxy.db", "not a database"},
		},
		"no identity": {
			prepare: func(dir string) error { return os.WriteFile(filepath.Join(dir, "identity.age"), garbage, 0o600) },
			want:    []string{"identity.age"},
		},
		"no EAB key": {
			change: func(c *proxy.Config) { c.EABKid, c.EABHMACKeyFile = "kid", "/nonexistent/key" },
			want:   []string{"eab-hmac-key-file", "/nonexistent/key"},
		},
	} {
		t.Run(what, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "d")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			if start.prepare != nil {
				if err := start.prepare(dir); err != nil {
					t.Fatal(err)
				}
			}
			q, err := proxy.New(t.Context(), settings(dir, start.change))
			if err == nil {
				t.Fatal("it started", q.Close())
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("more than one line: %q", err)
			}
			for _, want := range start.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
			if open := openBelow(t, dir); len(open) > 0 {
				t.Errorf("left open: %q", open)
			}
		})
	}
	if _, err := p.Admin.Status(t.Context()); err != nil {
		t.Errorf("the proxy that runs: %v", err)
	}
}

// No other user can read the data directory, even if its mode allowed it before
// (A38).
func TestModesOfTheDataDirectory(t *testing.T) {
	t.Parallel()
	p := proxytest.Start(t, proxytest.Options{Change: func(c *proxy.Config) {
		if err := os.Chmod(c.DataDir, 0o755); err != nil {
			t.Fatal(err)
		}
		c.Domains = []string{"own.example.com"}
	}})
	key := filepath.Join(p.DataDir, "certs", "own.example.com", "privkey.pem")
	watch.Until(t, "there is a key", func() bool { _, err := os.Stat(key); return err == nil })
	p.Enroll(t, "web1", proxytest.Grant(clients.ModeAgent, "*.example.com"))
	seen := 0
	err := filepath.WalkDir(p.DataDir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Type()&fs.ModeSymlink != 0 {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(p.DataDir, path)
		if err != nil {
			return err
		}
		// Files below certs are also for other services, once the administrator
		// gives them access. Keys are not.
		public := strings.HasPrefix(rel, "certs") && filepath.Base(rel) != "privkey.pem"
		if perm := info.Mode().Perm(); perm&0o077 != 0 && !public {
			t.Errorf("%s has mode %v", rel, perm)
		}
		if perm := info.Mode().Perm(); perm&0o022 != 0 {
			t.Errorf("others may write to %s: %v", rel, perm)
		}
		seen++
		return err
	})
	if err != nil || seen < 10 {
		t.Errorf("seen %d files, %v", seen, err)
	}
}

// Health is public and reports nothing else (A39).
func TestHealth(t *testing.T) {
	t.Parallel()
	p := proxytest.Start(t, proxytest.Options{})
	r := p.WithToken(t, "").Do(t, http.MethodGet, api.PathHealth, nil)
	var h map[string]any
	if err := json.Unmarshal(r.Body, &h); err != nil {
		t.Fatal(err)
	}
	if r.Status != http.StatusOK || r.Header.Get("Content-Type") != api.TypeHealth || len(h) != 1 || h["status"] != "pass" {
		t.Errorf("%d %v %s", r.Status, r.Header, r.Body)
	}
}

// A CA that cannot be reached at start is not fatal. Clients are served, get the
// cause, and get their certificates when the CA is back (A37).
func TestStartsWithoutCA(t *testing.T) {
	t.Parallel()
	var clk proxytest.Clock
	var ca pebbletest.Fault
	ca.Fail(http.StatusServiceUnavailable)
	p := proxytest.Start(t, proxytest.Options{
		Pebble: pebbletest.Options{Wrap: ca.Wrap},
		Change: clk.On(func(c *proxy.Config) { c.Domains = []string{"own.example.com"} }),
	})
	id, recipient := proxytest.NewIdentity(t)
	c := p.NewCaller(t, "web1", []string{recipient}, proxytest.Grant(clients.ModeAgent, "*.web1.example.com"))
	host := p.Enroll(t, "web2", proxytest.Grant(clients.ModeGateway, "*.web2.example.com"))
	m := c.Register(t, "a.web1.example.com")
	if err := <-streamed(t, host, "a.web2.example.com"); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("the gateway's client: %v; want the CA's 503", err)
	}
	watch.Until(t, "the failures show", func() bool {
		return c.Certificate(t, m.ID).LastError != "" && p.Own(t, "own.example.com").LastError != ""
	})
	if r := p.WithToken(t, "").Do(t, http.MethodGet, api.PathHealth, nil); r.Status != http.StatusOK {
		t.Errorf("health: %d", r.Status)
	}
	ca.PassAll()
	if err := <-streamed(t, host, "a.web2.example.com"); err != nil {
		t.Errorf("the gateway's client, after the recovery: %v", err)
	}
	clk.Advance(10 * time.Minute)
	p.Tick(t)
	proxytest.OpenBundle(t, c.Bundle(t, m.ID, "").Body, proxytest.Names(t, "a.web1.example.com"), id)
	watch.Until(t, "the proxy's own certificate is there", func() bool { return p.Own(t, "own.example.com").Serial != "" })
}

// A proxy without configuration starts, serves, and sends nothing to the CA until a
// certificate is requested (A35).
func TestStartsWithNothing(t *testing.T) {
	t.Parallel()
	p := proxytest.Start(t, proxytest.Options{Change: func(c *proxy.Config) { c.AcceptTOS = false }})
	p.Tick(t)
	status, err := p.Admin.Status(t.Context())
	if err != nil || len(status.Needs) == 0 || len(status.Certificates) != 0 {
		t.Errorf("status %+v, %v; want what is missing", status, err)
	}
	if n := p.CA.Requests().Total(); n != 0 {
		t.Errorf("%d requests reached the CA", n)
	}
}

// A CA with its own root is trusted through LEGO_CA_CERTIFICATES. Without it the
// error has the cause and the remedy (A33). Not parallel, because the variable
// belongs to the process.
func TestTrustFromTheEnvironment(t *testing.T) {
	const variable = "LEGO_CA_CERTIFICATES"
	ca := pebbletest.Start(t, pebbletest.Options{})
	for _, trusted := range []bool{false, true} {
		file := ""
		if trusted {
			file = ca.ServerCAFile
		}
		t.Setenv(variable, file)
		p := proxytest.Start(t, proxytest.Options{CA: ca, Change: func(c *proxy.Config) { c.RootCAs = nil }})
		host := p.Enroll(t, "web1", proxytest.Grant(clients.ModeGateway, "*.example.com"))
		err := <-streamed(t, host, "a.example.com")
		if trusted && err != nil {
			t.Errorf("with the CA's root: %v", err)
		}
		if !trusted && (err == nil || !strings.Contains(p.Log(), variable)) {
			t.Errorf("without the CA's root: %v; want a log that names %s", err, variable)
		}
		p.Stop(t)
	}
	t.Setenv(variable, "/nonexistent/root.pem")
	if _, err := proxy.New(t.Context(), settings(t.TempDir(), nil)); err == nil || !strings.Contains(err.Error(), variable) {
		t.Errorf("a file that is not there: %v", err)
	}
}

// A CA and a hook that hang do not delay a stop beyond the grace period. The next
// start finishes the order, and the hook runs again (A36).
func TestStopCutsOffWhatHangs(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("SKIP: waits for the whole grace period")
	}
	var ca pebbletest.Fault
	hook := proxytest.NewHookLog(t)
	p := proxytest.Start(t, proxytest.Options{Pebble: pebbletest.Options{Wrap: ca.Wrap}, Change: func(c *proxy.Config) {
		c.Domains = []string{"own.example.com"}
		c.CertificateObtainedHook = hook.Command() + " && test -e " + filepath.Join(hook.Dir, "go") + " || exec sleep 600"
	}})
	host := p.Enroll(t, "web1", proxytest.Grant(clients.ModeGateway, "*.web1.example.com"))
	id, recipient := proxytest.NewIdentity(t)
	agent := p.NewCaller(t, "web2", []string{recipient}, proxytest.Grant(clients.ModeAgent, "*.web2.example.com"))
	hook.Deployed(t, 1)
	ca.Hold(t, pebbletest.Finalize)
	m := agent.Register(t, "a.web2.example.com")
	issued := streamed(t, host, "a.web1.example.com")
	watch.Until(t, "both orders are held", func() bool { return p.CA.Requests().Count(pebbletest.Finalize) == 3 })

	began := time.Now()
	p.Stop(t)
	if took := time.Since(began); took < work.Grace || took > work.Grace+10*time.Second {
		t.Errorf("the stop took %v, want %v", took, work.Grace)
	}
	if err := <-issued; err == nil {
		t.Error("the gateway's client got a certificate from a CA that hangs")
	}
	if log := p.Log(); strings.Contains(log, "abandoned by its client") || !strings.Contains(log, "cut off by our own stop") {
		t.Error("the log blames the client for our stop")
	}
	ca.PassAll()
	if err := os.WriteFile(filepath.Join(hook.Dir, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	p.Restart(t)
	proxytest.OpenBundle(t, agent.Bundle(t, m.ID, "").Body, proxytest.Names(t, "a.web2.example.com"), id)
	if n := p.CA.Requests().Count(pebbletest.NewOrder); n != 3 {
		t.Errorf("%d orders, want no other than those of before", n)
	}
	hook.Deployed(t, 2)
}
