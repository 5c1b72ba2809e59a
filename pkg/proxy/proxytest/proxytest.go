// Package proxytest starts a whole proxy for a test, with real ports on loopback, a
// real store (by default SQLite in a temporary folder) and a real Pebble in the same
// process. It must never be used outside of tests.
//
//	p := proxytest.Start(t, proxytest.Options{})
//	web1 := p.Enroll(t, "web1", proxytest.Grant("agent", "*.example.com"))
//	getter, err := web1.Getter(nil)
package proxytest

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/internal/watch"
	"github.com/acmeproxy/acmeproxy/pkg/auth"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/config"
	"github.com/acmeproxy/acmeproxy/pkg/frontend/admin"
	"github.com/acmeproxy/acmeproxy/pkg/proxy"
	"github.com/acmeproxy/acmeproxy/pkg/remote"
)

// Options configures Start.
type Options struct {
	Pebble pebbletest.Options
	CA     *pebbletest.CA // if nil, Start starts one
	Store  string         // URL of a PostgreSQL database; if empty, SQLite
	Change func(*proxy.Config)
	Idle   bool // if set, Start does not call Run
}

// Proxy is a running proxy.
type Proxy struct {
	*proxy.Proxy
	CA      *pebbletest.CA
	DataDir string
	URL     string // with the address, for enrolment
	Admin   *admin.Admin
	Address string // of the API, for a proxy in another process
	cfg     proxy.Config
	log     *watch.Log
	cancel  context.CancelFunc
	done    chan error
}

// Start starts a CA and a proxy, and stops both when the test ends.
func Start(t testing.TB, o Options) *Proxy {
	t.Helper()
	ca := o.CA
	if ca == nil {
		ca = pebbletest.Start(t, o.Pebble)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca.ServerCAPEM)
	p := &Proxy{CA: ca, DataDir: shortDir(t), log: &watch.Log{}}
	p.cfg = proxy.Config{Serve: config.DefaultServe(), Version: "test", RootCAs: roots, Getenv: os.Getenv, Environ: os.Environ()}
	p.cfg.HTTPAddr = fmt.Sprintf("127.0.0.1:%d", ca.HTTPPort)
	p.cfg.HTTPSAddr = "127.0.0.1:0"
	p.cfg.DataDir = p.DataDir
	p.cfg.Store = o.Store
	p.cfg.ACMEDirectoryURL = ca.DirectoryURL
	p.cfg.AcceptTOS = true
	p.cfg.Logger = slog.New(slog.NewTextHandler(p.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	if o.Change != nil {
		o.Change(&p.cfg)
	}
	t.Cleanup(func() {
		p.Stop(t)
		if t.Failed() {
			t.Logf("the proxy's log:\n%s", p.Log())
		}
	})
	p.open(t)
	if !o.Idle {
		p.run(t)
	}
	return p
}

// shortDir returns a temporary folder with a path that is short enough for a unix
// socket.
func shortDir(t testing.TB) string {
	dir, err := os.MkdirTemp("", "apx") //nolint:usetesting // t.TempDir's path holds the test's name
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func (p *Proxy) open(t testing.TB) {
	t.Helper()
	var err error
	if p.Proxy, err = proxy.New(context.Background(), p.cfg); err != nil {
		t.Fatal(err)
	}
	p.URL = "https://" + p.HTTPSAddr()
	p.cfg.HTTPSAddr = p.HTTPSAddr() // a restart must use the same port
	p.Admin = admin.Dial(filepath.Join(p.DataDir, admin.SocketName))
}

// run starts Run and returns when the admin socket answers.
func (p *Proxy) run(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	p.cancel, p.done = cancel, done
	go func(p *proxy.Proxy) { done <- p.Run(ctx) }(p.Proxy)
	if _, err := p.Admin.Status(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// Stop ends the proxy as SIGTERM does. It may be called twice.
func (p *Proxy) Stop(t testing.TB) {
	t.Helper()
	if p.Proxy == nil {
		return
	}
	var err error
	if p.cancel == nil {
		err = p.Close()
	} else {
		p.cancel()
		err = <-p.done
	}
	p.Proxy, p.cancel = nil, nil
	if err != nil {
		t.Errorf("stop the proxy: %v", err)
	}
}

// Restart stops the proxy and starts it again with the same data and ports and a
// changed configuration.
func (p *Proxy) Restart(t testing.TB, changes ...func(*proxy.Config)) {
	t.Helper()
	p.Stop(t)
	for _, change := range changes {
		change(&p.cfg)
	}
	p.open(t)
	p.run(t)
}

// Refused stops the proxy, tries to start it with a changed configuration, and returns
// the error.
func (p *Proxy) Refused(t testing.TB, change func(*proxy.Config)) error {
	t.Helper()
	p.Stop(t)
	cfg := p.cfg
	change(&cfg)
	refused, err := proxy.New(t.Context(), cfg)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	return refused.Run(ctx)
}

// Log returns the proxy's log so far, including the debug level.
func (p *Proxy) Log() string { return p.log.String() }

// Grant allows one mode for some name patterns.
func Grant(mode clients.Mode, patterns ...string) clients.Grant {
	return clients.Grant{Names: patterns, Modes: []clients.Mode{mode}}
}

// AddClient creates a client and returns its enrolment token.
func (p *Proxy) AddClient(t testing.TB, name string, grants ...clients.Grant) auth.EnrollToken {
	t.Helper()
	answer, err := p.Admin.AddClient(t.Context(), admin.NewClient{Name: name, Grants: grants, URL: p.URL})
	if err != nil {
		t.Fatal(err)
	}
	token, err := auth.ParseEnrollToken(answer.EnrollToken)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// Enroll creates a client and a remote that is enrolled as it.
func (p *Proxy) Enroll(t testing.TB, name string, grants ...clients.Grant) *remote.State {
	t.Helper()
	state, err := remote.Enroll(t.Context(), t.TempDir(), "test", p.AddClient(t, name, grants...), remote.EnrollOptions{Environment: environment()})
	if err != nil {
		t.Fatal(err)
	}
	return state
}

// Bearer creates a client with a bearer token, which it returns.
func (p *Proxy) Bearer(t testing.TB, name string, grants ...clients.Grant) string {
	t.Helper()
	answer, err := p.Admin.AddClient(t.Context(), admin.NewClient{Name: name, Grants: grants, Bearer: true})
	if err != nil {
		t.Fatal(err)
	}
	return answer.BearerToken
}
