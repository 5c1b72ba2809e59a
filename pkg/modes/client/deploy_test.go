package client_test

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/internal/pgtest"
	"github.com/acmeproxy/acmeproxy/internal/watch"
	"github.com/acmeproxy/acmeproxy/pkg/config"
	"github.com/acmeproxy/acmeproxy/pkg/frontend/admin"
	"github.com/acmeproxy/acmeproxy/pkg/proxy"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
)

const childVariable = "ACMEPROXY_TEST_CHILD"

// childConfig holds the settings of a proxy in a separate process.
type childConfig struct {
	config.Serve
	Roots []byte // PEM
}

// TestChild runs the process that TestKilledDeployment kills. It tests nothing itself.
func TestChild(t *testing.T) {
	text := os.Getenv(childVariable)
	if text == "" {
		t.Skip("it is started by TestKilledDeployment")
	}
	var c childConfig
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		t.Fatal(err)
	}
	cfg := proxy.Config{Serve: c.Serve, Version: "test", Getenv: os.Getenv, RootCAs: x509.NewCertPool(), Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))}
	cfg.RootCAs.AppendCertsFromPEM(c.Roots)
	p, err := proxy.New(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Fatal(p.Run(context.Background()))
}

// waitingHook counts its runs and then waits until it may end.
type waitingHook struct{ dir string }

func newWaitingHook(t testing.TB) *waitingHook {
	h := &waitingHook{t.TempDir()}
	t.Cleanup(h.let) // ends the hooks of a killed proxy, too
	return h
}

func (h *waitingHook) command() string {
	return fmt.Sprintf(`cd %s && echo $$ > run.$$ && while test ! -e go; do sleep 0.05; done; touch ended`, h.dir)
}

func (h *waitingHook) runs() int {
	files, _ := filepath.Glob(filepath.Join(h.dir, "run.*"))
	return len(files)
}

func (h *waitingHook) let() { _ = os.WriteFile(filepath.Join(h.dir, "go"), nil, 0o600) }

// With PostgreSQL, a deployment that is interrupted by kill -9 runs again after
// two minutes, and status shows it meanwhile. It was 655 s.
func TestKilledDeployment(t *testing.T) {
	t.Parallel()
	url, ca, hook := pgtest.Start(t).Database(t), pebbletest.Start(t, pebbletest.Options{}), newWaitingHook(t)
	dir, err := os.MkdirTemp("", "apx") //nolint:usetesting // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	child := childConfig{config.DefaultServe(), ca.ServerCAPEM}
	child.HTTPAddr, child.HTTPSAddr = fmt.Sprintf("127.0.0.1:%d", ca.HTTPPort), "127.0.0.1:0"
	child.DataDir, child.Store, child.ACMEDirectoryURL, child.AcceptTOS = dir, url, ca.DirectoryURL, true
	child.Domains, child.CertificateObtainedHook = []string{"own.example.com"}, hook.command()
	text, err := json.Marshal(child)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestChild$")
	cmd.Env = append(os.Environ(), childVariable+"="+string(text))
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	watch.Until(t, "the hook runs", func() bool { return hook.runs() == 1 })
	status, err := admin.Dial(filepath.Join(dir, admin.SocketName)).Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if d := status.Certificates[0].Deployment; d == nil || d.RunBy != status.Instances.Self {
		t.Errorf("status of %s shows %+v", status.Instances.Self, d)
	}
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	killed := time.Now()
	_ = cmd.Wait() // killed

	var clk proxytest.Clock
	p := proxytest.Start(t, proxytest.Options{CA: ca, Store: url, Change: clk.On(func(c *proxy.Config) {
		c.Domains, c.CertificateObtainedHook = child.Domains, hook.command()
		proxytest.ShareIdentity(t, dir, c.DataDir)
	})})
	d := p.Own(t, "own.example.com").Deployment
	if d == nil || d.RunBy == "" || strings.HasPrefix(d.RunBy, hostAndPid(t)) {
		t.Fatalf("status shows %+v", d)
	}
	after := d.LeaseUntil.Sub(killed)
	t.Logf("the hook runs again %v after the kill", after.Round(time.Second))
	if after > 2*time.Minute {
		t.Errorf("the hook would run again %v after the kill", after)
	}
	clk.Advance(time.Minute)
	p.Deployments.Wake()
	if n := hook.runs(); n != 1 {
		t.Errorf("the hook ran %d times while it was leased", n)
	}
	hook.let()
	clk.Advance(time.Minute)
	p.Tick(t)
	watch.Until(t, "the deployment is done", func() bool { return p.Own(t, "own.example.com").Deployment == nil })
	if n := hook.runs(); n != 2 {
		t.Errorf("the hook ran %d times, want 2", n)
	}
	if n := ca.Requests().Count(pebbletest.NewOrder); n != 1 {
		t.Errorf("%d orders, want 1", n)
	}
}

func hostAndPid(t *testing.T) string {
	t.Helper()
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	return host + "/" + strconv.Itoa(os.Getpid()) + "/"
}

// A database that is unreachable when a hook is recorded causes no second run, and
// the next certificate is deployed.
func TestDatabaseAwayWhileDeploying(t *testing.T) {
	t.Parallel()
	server, hook := pgtest.Start(t), newWaitingHook(t)
	var clk proxytest.Clock
	p := proxytest.Start(t, proxytest.Options{Store: server.Database(t), Change: clk.On(func(c *proxy.Config) {
		c.Domains, c.CertificateObtainedHook = []string{"own.example.com"}, hook.command()
	})})
	watch.Until(t, "the hook runs", func() bool { return hook.runs() == 1 })
	server.Stop()
	hook.let()
	watch.Until(t, "the hook has ended", func() bool {
		_, err := os.Stat(filepath.Join(hook.dir, "ended"))
		return err == nil
	})
	if err := server.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	watch.Until(t, "the deployment is recorded", func() bool { return p.Own(t, "own.example.com").Deployment == nil })
	first := p.Own(t, "own.example.com").Serial
	clk.Advance(61 * 24 * time.Hour)
	p.Tick(t)
	watch.Until(t, "the next certificate is deployed", func() bool {
		c := p.Own(t, "own.example.com")
		return c.Serial != first && c.Deployment == nil
	})
	if n := hook.runs(); n != 2 {
		t.Errorf("the hook ran %d times, want 2", n)
	}
}
