package relay_test

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	xacme "golang.org/x/crypto/acme"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/internal/pgtest"
	"github.com/acmeproxy/acmeproxy/internal/watch"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/config"
	"github.com/acmeproxy/acmeproxy/pkg/frontend/admin"
	"github.com/acmeproxy/acmeproxy/pkg/proxy"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
)

// outcome is the end of a finalize.
type outcome struct {
	chain [][]byte
	err   error
}

// keyed is a key for a certificate with some names.
type keyed struct {
	crypto.Signer
	names []string
}

// finalize finalizes an order in the background.
func finalize(ctx context.Context, t *testing.T, a *proxytest.ACMEAccount, o *xacme.Order, key keyed) <-chan outcome {
	t.Helper()
	done := make(chan outcome, 1)
	go func() {
		chain, err := a.Finalize(ctx, t, o, key.Signer, key.names...)
		done <- outcome{chain, err}
	}()
	return done
}

func newOrder(t *testing.T, a *proxytest.ACMEAccount, names ...string) *xacme.Order {
	t.Helper()
	o, err := a.Order(t.Context(), names...)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// Any instance serves any request of an order. Two orders with the same key, at two
// instances, get the certificate of one order at the CA (X21).
func TestTwoInstances(t *testing.T) {
	t.Parallel()
	url := pgtest.Start(t).Database(t)
	var fault pebbletest.Fault
	ca := pebbletest.Start(t, pebbletest.Options{Wrap: fault.Wrap})
	one := start(t, proxytest.Options{CA: ca, Store: url})
	two := start(t, proxytest.Options{CA: ca, Store: url, Change: func(cfg *proxy.Config) {
		cfg.HTTPAddr = "127.0.0.1:0"
		proxytest.ShareIdentity(t, one.DataDir, cfg.DataDir)
	}})
	watch.Until(t, "the instances hear each other", func() bool {
		s, err := two.Admin.Status(t.Context())
		return err == nil && s.Instances != nil && len(s.Instances.Others) == 1
	})
	a := one.NewACMEAccount(t, one.ACMECredential(t, "web1", proxytest.Grant(clients.ModeACME, "*.example.com")))
	atTwo := a.At(t, two)
	key := keyed{proxytest.NewKey(t), []string{"a.example.com"}}
	first, second := newOrder(t, a, key.names...), newOrder(t, a, key.names...)
	arrived, release := fault.Hold(t, pebbletest.Finalize)
	defer release()
	atFirst := finalize(t.Context(), t, a, first, key)
	watch.Await(t, "the CA is asked", arrived)
	atSecond := finalize(t.Context(), t, atTwo, second, key)
	watch.Until(t, "the second order waits", func() bool {
		o, err := a.GetOrder(t.Context(), second.URI) // at the other instance
		return err == nil && o.Status == xacme.StatusProcessing
	})
	release()
	x, y := <-atFirst, <-atSecond
	if x.err != nil || y.err != nil {
		t.Fatalf("%v, %v", x.err, y.err)
	}
	if !leaf(t, x.chain).Equal(leaf(t, y.chain)) || one.Orders() != 1 {
		t.Errorf("%d orders at the CA", one.Orders())
	}
}

// An instance is killed while the CA works on an order. Another one finishes that order,
// and the client gets its certificate (X7).
func TestKilled(t *testing.T) {
	t.Parallel()
	url := pgtest.Start(t).Database(t)
	var fault pebbletest.Fault
	ca := pebbletest.Start(t, pebbletest.Options{Wrap: fault.Wrap})
	child := startChild(t, ca, url)
	admins := admin.Dial(filepath.Join(child.dir, admin.SocketName))
	var status admin.Status
	watch.Until(t, "the instance serves", func() (ok bool) {
		var err error
		status, err = admins.Status(t.Context())
		return err == nil
	})
	killed := &proxytest.Proxy{Admin: admins}
	credential := killed.ACMECredential(t, "web1", proxytest.Grant(clients.ModeACME, "*.example.com"))
	killed.Address = status.HTTPSAddr
	a := killed.NewACMEAccount(t, credential)
	key := keyed{proxytest.NewKey(t), []string{"a.example.com"}}
	o := newOrder(t, a, key.names...)
	arrived, release := fault.Hold(t, pebbletest.Finalize)
	defer release()
	done := finalize(t.Context(), t, a, o, key)
	watch.Await(t, "the CA is asked", arrived)
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait() // killed
	if out := <-done; out.err == nil {
		t.Error("a killed instance answered")
	}
	release()

	var clk proxytest.Clock
	p := start(t, proxytest.Options{CA: ca, Store: url, Change: clk.On(func(cfg *proxy.Config) { proxytest.ShareIdentity(t, child.dir, cfg.DataDir) })})
	clk.Advance(time.Minute) // the lease of the killed instance ends
	atOther := a.At(t, p)
	finished, err := atOther.WaitOrder(t.Context(), o.URI)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := atOther.FetchCert(t.Context(), finished.CertURL, true)
	if err != nil {
		t.Fatal(err)
	}
	leaf(t, chain)
	if n := ca.Requests().Count(pebbletest.NewOrder); n != 1 {
		t.Errorf("%d orders at the CA", n)
	}
	// The entry of the instance that finished the order has the address of the finalize.
	watch.Until(t, "the certificate is audited", func() bool { return p.Audited(t, "web1", "certificate", "done") == 1 })
	page, err := p.Admin.Audit(t.Context(), admin.AuditQuery{Client: "web1"})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range page.Entries {
		if e.Addr != "127.0.0.1" && e.Addr != "admin" {
			t.Errorf("%s %s from %q", e.Outcome, e.Action, e.Addr)
		}
	}
}

// A proxy that stops while the CA works continues the order when it starts again, and
// stores certificates only sealed (C13).
func TestRestart(t *testing.T) {
	t.Parallel()
	var fault pebbletest.Fault
	p := start(t, proxytest.Options{Pebble: pebbletest.Options{Wrap: fault.Wrap}})
	a := p.NewACMEAccount(t, p.ACMECredential(t, "web1", proxytest.Grant(clients.ModeACME, "*.example.com")))
	key := keyed{proxytest.NewKey(t), []string{"a.example.com"}}
	o := newOrder(t, a, key.names...)
	arrived, release := fault.Hold(t, pebbletest.Finalize)
	defer release()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := finalize(ctx, t, a, o, key)
	watch.Await(t, "the CA is asked", arrived)
	p.Restart(t)
	cancel()
	<-done
	release()
	a = a.At(t, p)
	finished, err := a.WaitOrder(t.Context(), o.URI)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := a.FetchCert(t.Context(), finished.CertURL, true)
	if err != nil {
		t.Fatal(err)
	}
	c := leaf(t, chain)
	if p.Orders() != 1 {
		t.Errorf("%d orders at the CA", p.Orders())
	}
	p.Stop(t)
	traces := proxytest.Traces{"signature": c.Signature}
	if found := traces.In(proxytest.Walk(t, p.DataDir)); len(found) > 0 {
		t.Errorf("not sealed: %q", found)
	}
}

// childVariable is the environment variable with the configuration of a child process.
const childVariable = "ACMEPROXY_TEST_RELAY_CHILD"

type childConfig struct {
	config.Serve
	RootsPEM []byte
}

type child struct {
	*exec.Cmd
	dir string
}

// TestChild is the process of startChild.
func TestChild(t *testing.T) {
	text := os.Getenv(childVariable)
	if text == "" {
		t.Skip("it is started by TestKilled")
	}
	var c childConfig
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		t.Fatal(err)
	}
	cfg := proxy.Config{Serve: c.Serve, Version: "test", Getenv: os.Getenv, RootCAs: x509.NewCertPool(), Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))}
	cfg.RootCAs.AppendCertsFromPEM(c.RootsPEM)
	p, err := proxy.New(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Fatal(p.Run(context.Background()))
}

// startChild starts a proxy in a process of its own.
func startChild(t *testing.T, ca *pebbletest.CA, store string) *child {
	t.Helper()
	dir, err := os.MkdirTemp("", "apx") //nolint:usetesting // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	cfg := childConfig{config.DefaultServe(), ca.ServerCAPEM}
	cfg.HTTPAddr, cfg.HTTPSAddr = fmt.Sprintf("127.0.0.1:%d", ca.HTTPPort), "127.0.0.1:0"
	cfg.DataDir, cfg.Store, cfg.ACMEDirectoryURL, cfg.AcceptTOS = dir, store, ca.DirectoryURL, true
	cfg.PublicURL = "https://" + proxytest.ACMEName
	text, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	c := &child{exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestChild$"), dir}
	c.Env = append(os.Environ(), childVariable+"="+string(text))
	c.Stderr = t.Output()
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	return c
}
