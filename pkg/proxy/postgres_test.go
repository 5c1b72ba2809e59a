package proxy_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/internal/pgtest"
	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/config"
	"github.com/acmeproxy/acmeproxy/pkg/frontend/admin"
	"github.com/acmeproxy/acmeproxy/pkg/proxy"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
	"github.com/acmeproxy/acmeproxy/pkg/remote"
	"github.com/acmeproxy/acmeproxy/pkg/store"
)

// The three modes on PostgreSQL (A1, D14). Whoever steals the database's dump
// can read no key and no bundle in it, and of the gateway nothing is there at
// all (X17, A10, A11, A14). The store's password is in no log and no status.
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
	files := walk(t, p.DataDir)
	for name := range files {
		if strings.Contains(name, "acmeproxy.db") {
			t.Errorf("there is a SQLite database as well: %s", name)
		}
	}
	dump := map[string][]byte{"dump": readable(server.Dump(t, url))}
	checkStolen(t, dump, bundles, ownSecrets(t, p, store.Config{URL: url}))
}

// readable replaces pg_dump's form of binary columns by the bytes themselves.
func readable(dump []byte) []byte {
	var out bytes.Buffer
	for line := range bytes.Lines(dump) {
		for field := range bytes.SplitSeq(bytes.TrimSuffix(line, []byte("\n")), []byte("\t")) {
			digits, isBinary := bytes.CutPrefix(field, []byte(`\\x`))
			if raw, err := hex.DecodeString(string(digits)); isBinary && err == nil {
				field = raw
			}
			out.Write(field)
			out.WriteByte('\t')
		}
		out.WriteByte('\n')
	}
	return out.Bytes()
}

// Two instances on one database, behind a web server that asks the second when
// the first does not know a token: each due row is worked on once, by either,
// and what one was asked for the other one serves (D13, X7).
func TestTwoInstances(t *testing.T) {
	t.Parallel()
	url := pgtest.Start(t).Database(t)
	var ca fault
	pebble := pebbletest.Start(t, pebbletest.Options{Wrap: ca.wrap})
	anyPort := func(c *proxy.Config) { c.HTTPAddr = "127.0.0.1:0" }
	one := proxytest.Start(t, proxytest.Options{CA: pebble, Store: url, Change: anyPort})
	s, err := store.Open(t.Context(), store.Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()

	const certificates = 20 // more than one instance works on at once
	id, recipient := newIdentity(t)
	c := newCaller(t, one, "script", []string{recipient}, proxytest.Grant(api.ModeAgent, "*.example.com"))
	arrived, release := ca.hold(t, pebbletest.NewOrder)
	var rows []api.Certificate
	for i := range certificates {
		rows = append(rows, c.register(t, fmt.Sprintf("n%d.example.com", i)))
	}
	await(t, "the first order", arrived)
	// The second takes nothing from the first, and finds what is left.
	two := proxytest.Start(t, proxytest.Options{CA: pebble, Store: url, Change: func(c *proxy.Config) {
		anyPort(c)
		shareIdentity(t, one.DataDir, c.DataDir)
	}})
	front(t, pebble.HTTPPort, one.HTTPAddr(), two.HTTPAddr())
	client, err := s.ClientByName(t.Context(), "script")
	if err != nil {
		t.Fatal(err)
	}
	proxytest.Until(t, "both instances work", func() bool { return len(workers(t, s, client.ID)) == 2 })
	release()
	c.url = two.URL
	for _, row := range rows {
		open(t, c.bundle(t, row.ID, "").body, names(t, row.Names...), id)
	}
	if n := pebble.Requests().Count(pebbletest.NewOrder); n != certificates {
		t.Errorf("%d orders for %d certificates", n, certificates)
	}

	// A row that anybody inserted is enough (D14).
	row, _, err := s.EnsureManaged(t.Context(), store.Managed{
		ClientID: client.ID, Mode: api.ModeAgent, Names: []string{"row.example.com"}, KeyType: "ec256",
	})
	if err != nil {
		t.Fatal(err)
	}
	one.Renewals.Wake()
	open(t, c.bundle(t, row.ID, "").body, names(t, "row.example.com"), id)

	// A token of the one enrols with the other, which has the same pinned key;
	// one instance alone carries on.
	token := one.AddClient(t, "web1", proxytest.Grant(api.ModeAgent, "*.web1.example.com"))
	one.Stop(t)
	token.URL = two.URL
	web1, err := remote.Enroll(t.Context(), t.TempDir(), "test", token, remote.EnrollOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := get(t, web1, api.ModeAgent, "www.web1.example.com"); err != nil {
		t.Error(err)
	}
}

// workers are the instances that hold a lease on a client's rows.
func workers(t *testing.T, s *store.Store, clientID string) map[string]bool {
	t.Helper()
	rows, err := s.ListManaged(t.Context(), clientID, api.ModeAgent, "", 0)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, row := range rows {
		if row.LeaseOwner != "" {
			found[path.Dir(row.LeaseOwner)] = true // each claim adds a part
		}
	}
	return found
}

// shareIdentity gives the second instance the first one's, as its operator does.
func shareIdentity(t *testing.T, from, to string) {
	t.Helper()
	const name = "identity.age"
	data, err := os.ReadFile(filepath.Join(from, name))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(to, name), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// front listens where the CA connects and asks the instances in turn until one
// knows the token, as nginx does with proxy_next_upstream http_404.
func front(t *testing.T, port int, backends ...string) {
	t.Helper()
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, backend := range backends {
			req, err := http.NewRequestWithContext(r.Context(), http.MethodGet, "http://"+backend+r.URL.Path, nil)
			if err != nil {
				t.Error(err)
				return
			}
			req.Host = r.Host
			resp, err := http.DefaultTransport.RoundTrip(req)
			if err != nil {
				continue // it was stopped
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err == nil && resp.StatusCode == http.StatusOK {
				w.Write(body)
				return
			}
		}
		http.NotFound(w, r)
	}))
	s.Listener.Close()
	s.Listener = l
	s.Start()
	t.Cleanup(s.Close)
}

// While the database is away the proxy says so and lives on (A39); when it is
// back, everything goes on.
func TestDatabaseAway(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t)
	p := proxytest.Start(t, proxytest.Options{Store: server.Database(t)})
	id, recipient := newIdentity(t)
	c := newCaller(t, p, "web1", []string{recipient}, proxytest.Grant(api.ModeAgent, "*.example.com"))
	health := func() int { return c.do(t, http.MethodGet, api.PathHealth, nil).status }
	if got := health(); got != http.StatusOK {
		t.Errorf("health before: %d", got)
	}
	server.Stop()
	if got := health(); got != http.StatusServiceUnavailable {
		t.Errorf("health without the database: %d", got)
	}
	r := c.do(t, http.MethodPost, api.PathCertificates, api.CertificateRequest{Mode: api.ModeAgent, Names: []string{"a.example.com"}})
	if r.status < 500 || bytes.Contains(r.body, []byte("postgres")) || bytes.Contains(r.body, []byte("127.0.0.1")) {
		t.Errorf("a request without the database: %d %s", r.status, r.body)
	}
	if err := server.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := health(); got != http.StatusOK {
		t.Errorf("health after: %d", got)
	}
	m := c.register(t, "a.example.com")
	open(t, c.bundle(t, m.ID, "").body, names(t, "a.example.com"), id)
}

// An instance with an identity of its own cannot open what is sealed in a shared
// database; it says so, and does not begin.
func TestForeignIdentity(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t)
	url := server.Database(t)
	proxytest.Start(t, proxytest.Options{Store: url})
	cfg := proxy.Config{Serve: config.DefaultServe(), Version: "test"}
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
