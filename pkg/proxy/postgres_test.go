package proxy_test

import (
	"bytes"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/internal/pgtest"
	"github.com/acmeproxy/acmeproxy/internal/watch"
	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/config"
	"github.com/acmeproxy/acmeproxy/pkg/frontend/admin"
	"github.com/acmeproxy/acmeproxy/pkg/proxy"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
	"github.com/acmeproxy/acmeproxy/pkg/store"
)

// The three modes work on PostgreSQL (A1, D14). A stolen dump of the database reveals
// no key and no bundle, and has nothing of the gateway (X17, A10, A11, A14). No log
// and no status has the store's password.
func TestThreeModesPostgres(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t)
	url := server.Database(t)
	p, bundles := threeModes(t, url)
	status, err := p.Admin.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(status.Store, "postgres://postgres@127.0.0.1:") || strings.Contains(status.Store, server.Password) {
		t.Errorf("status shows the store as %s", status.Store)
	}
	page, err := p.Admin.Audit(t.Context(), admin.AuditQuery{Limit: 200})
	if err != nil || len(page.Entries) == 0 {
		t.Errorf("audit: %v, %v", page.Entries, err)
	}
	if log := p.Log(); strings.Contains(log, server.Password) || !strings.Contains(log, "store=postgres://postgres@127.0.0.1:") {
		t.Errorf("the log shows the store's password, or not the store:\n%s", log)
	}

	p.Restart(t) // what it needs is all there
	p.Stop(t)
	files := proxytest.Walk(t, p.DataDir)
	for name := range files {
		if strings.Contains(name, "acmeproxy.db") {
			t.Errorf("there is a SQLite database as well: %s", name)
		}
	}
	dump := map[string][]byte{"dump": pgtest.Readable(server.Dump(t, url))}
	checkStolen(t, dump, bundles, ownSecrets(t, p, store.Config{URL: url}))
}

// While the database cannot be reached, the proxy reports it and keeps running (A39).
// When it is back, the proxy continues.
func TestDatabaseAway(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t)
	p := proxytest.Start(t, proxytest.Options{Store: server.Database(t)})
	id, recipient := proxytest.NewIdentity(t)
	c := p.NewCaller(t, "web1", []string{recipient}, proxytest.Grant(clients.ModeAgent, "*.example.com"))
	health := func() int { return c.Do(t, http.MethodGet, api.PathHealth, nil).Status }
	if got := health(); got != http.StatusOK {
		t.Errorf("health before: %d", got)
	}
	server.Stop()
	if got := health(); got != http.StatusServiceUnavailable {
		t.Errorf("health without the database: %d", got)
	}
	r := c.Do(t, http.MethodPost, api.PathCertificates, api.CertificateRequest{Mode: clients.ModeAgent, Names: []string{"a.example.com"}})
	if r.Status < 500 || bytes.Contains(r.Body, []byte("postgres")) || bytes.Contains(r.Body, []byte("127.0.0.1")) {
		t.Errorf("a request without the database: %d %s", r.Status, r.Body)
	}
	if err := server.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := health(); got != http.StatusOK {
		t.Errorf("health after: %d", got)
	}
	m := c.Register(t, "a.example.com")
	proxytest.OpenBundle(t, c.Bundle(t, m.ID, "").Body, proxytest.Names(t, "a.example.com"), id)
}

// An instance with another identity cannot open the sealed data in a shared
// database. It reports this and does not start.
func TestForeignIdentity(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t)
	url := server.Database(t)
	proxytest.Start(t, proxytest.Options{Store: url})
	cfg := proxy.Config{Serve: config.DefaultServe(), Version: "test", Getenv: os.Getenv}
	cfg.Store, cfg.DataDir = url, t.TempDir()
	cfg.HTTPAddr, cfg.HTTPSAddr = "127.0.0.1:0", "127.0.0.1:0"
	p, err := proxy.New(t.Context(), cfg)
	if err == nil {
		p.Close()
		t.Fatal("it began")
	}
	if !strings.Contains(err.Error(), "copy it from the data directory of the first") || strings.Contains(err.Error(), server.Password) {
		t.Error(err)
	}
}

// X19: two instances share a database, and one of them reloads. It obtains the new
// name, orders in progress at either one finish, and the other's clients notice nothing.
func TestOneInstanceReloads(t *testing.T) {
	t.Parallel()
	var ca pebbletest.Fault
	var f file
	url := pgtest.Start(t).Database(t)
	one := proxytest.Start(t, proxytest.Options{Store: url, Pebble: pebbletest.Options{Wrap: ca.Wrap}, Change: f.on})
	two := proxytest.Start(t, proxytest.Options{Store: url, CA: one.CA, Change: func(cfg *proxy.Config) {
		cfg.HTTPAddr = "127.0.0.1:0" // the CA asks the first one
		proxytest.ShareIdentity(t, one.DataDir, cfg.DataDir)
	}})
	id, recipient := proxytest.NewIdentity(t)
	web1 := one.NewCaller(t, "web1", []string{recipient}, proxytest.Grant(clients.ModeAgent, "*.example.com"))
	host := two.Enroll(t, "web2", proxytest.Grant(clients.ModeGateway, "*.web2.example.com"))
	if err := <-streamed(t, host, "a.web2.example.com"); err != nil { // the account
		t.Fatal(err)
	}
	arrived, release := ca.Hold(t, pebbletest.Finalize)
	m := web1.Register(t, "a.example.com")
	issued := streamed(t, host, "b.web2.example.com")
	watch.Await(t, "the CA is asked", arrived)
	watch.Until(t, "both orders are held", func() bool { return one.CA.Requests().Count(pebbletest.Finalize) >= 3 })
	f.edit(func(s *config.Serve) { s.Domains = []string{"own.example.com"} })
	if _, err := one.Admin.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	release()
	if err := <-issued; err != nil {
		t.Errorf("the other instance's client: %v", err)
	}
	proxytest.OpenBundle(t, web1.Bundle(t, m.ID, "").Body, proxytest.Names(t, "a.example.com"), id)
	watch.Until(t, "the new name has its certificate", func() bool { return one.Own(t, "own.example.com").Serial != "" })
	if n := one.Orders(); n != 4 {
		t.Errorf("%d orders, want 4", n)
	}
}
