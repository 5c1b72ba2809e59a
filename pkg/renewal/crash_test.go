package renewal_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/internal/watch"
	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/challenge"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/issuer"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/renewal"
	"github.com/acmeproxy/acmeproxy/pkg/responder"
	"github.com/acmeproxy/acmeproxy/pkg/seal"
	"github.com/acmeproxy/acmeproxy/pkg/store"
	"github.com/acmeproxy/acmeproxy/pkg/work"
)

// world holds what outlives a process: the CA, port 80's address, the disk, the
// identity file and time.
type world struct {
	ca       *pebbletest.CA
	dir      string
	identity *age.X25519Identity // the proxy's
	client   *age.X25519Identity // certificates are sealed to it
	ahead    atomic.Int64        // of the real time
	port80   atomic.Pointer[responder.Responder]
}

func newWorld(t *testing.T, opts pebbletest.Options) *world {
	t.Helper()
	w := &world{ca: pebbletest.Start(t, opts), dir: t.TempDir()}
	var err error
	if w.identity, err = seal.GenerateIdentity(); err != nil {
		t.Fatal(err)
	}
	if w.client, err = seal.GenerateIdentity(); err != nil {
		t.Fatal(err)
	}
	w.port80.Store(responder.New())
	s := &http.Server{
		Addr:              fmt.Sprintf("127.0.0.1:%d", w.ca.HTTPPort),
		Handler:           http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { w.port80.Load().ServeHTTP(rw, r) }),
		ReadHeaderTimeout: 5 * time.Second,
	}
	done := make(chan error, 1)
	go func() { done <- s.ListenAndServe() }()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("port 80: %v", err)
		}
	})
	return w
}

func (w *world) now() time.Time { return time.Now().Add(time.Duration(w.ahead.Load())) }

func (w *world) pass(d time.Duration) { w.ahead.Add(int64(d)) }

func (w *world) newOrders() int { return w.ca.Requests().Count(pebbletest.NewOrder) }

// process is one run of the proxy, as far as renewals go.
type process struct {
	store *store.Store
	loop  *work.Loop
}

// mode allows everything. after, if set, is called when an outcome is stored.
type mode struct {
	to    age.Recipient
	after func()
}

func (m mode) Delivery(context.Context, managed.Certificate) (renewal.Delivery, error) {
	return renewal.Delivery{Recipients: []age.Recipient{m.to}}, nil
}

func (m mode) Settled(context.Context, managed.Outcome) {
	if m.after != nil {
		m.after()
	}
}

// start begins a process. Its predecessor's store stays open, because a killed
// process does not close it.
func (w *world) start(t *testing.T, change func(*renewal.Config)) *process {
	t.Helper()
	s, err := store.Open(t.Context(), store.Config{Path: filepath.Join(w.dir, "acmeproxy.db"), Now: w.now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(w.ca.ServerCAPEM)
	answers := responder.New()
	is, err := issuer.NewPool(issuer.PoolConfig{CAs: []issuer.CAConfig{{
		DirectoryURL: w.ca.DirectoryURL, Accounts: &issuer.StoredAccounts{Store: s, Identity: w.identity},
		Solvers: map[string]challenge.Solver{acme.HTTP01: challenge.FromMemory(acme.HTTP01, challenge.Memory{HTTP01: answers})}, AcceptTOS: true, RootCAs: roots, UserAgent: "acmeproxy/test",
	}}})
	if err != nil {
		t.Fatal(err)
	}
	w.port80.Store(answers)
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	cfg := renewal.Config{
		Store: s, Issuer: is, DirectoryURL: w.ca.DirectoryURL, Identity: w.identity,
		Modes: map[clients.Mode]renewal.Mode{"test": mode{to: w.client.Recipient()}},
		Owner: t.Name() + time.Now().String(), Logger: log, Now: w.now,
	}
	if change != nil {
		change(&cfg)
	}
	return &process{s, work.NewLoop(renewal.NewQueue(cfg), 4, w.now, log)}
}

func (p *process) tick(t *testing.T) {
	t.Helper()
	if err := p.loop.Tick(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func (p *process) want(t *testing.T, m managed.Certificate) managed.Certificate {
	t.Helper()
	m.Mode = "test"
	row, _, err := p.store.EnsureManaged(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	return row
}

func (p *process) row(t *testing.T, id string) managed.Certificate {
	t.Helper()
	row, err := p.store.ManagedByID(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return row
}

// journal returns the entry for a row, or nil.
func (p *process) journal(t *testing.T, id string) *managed.Order {
	t.Helper()
	order, err := p.store.OrderFor(t.Context(), id)
	if errors.Is(err, managed.ErrNotFound) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	return &order
}

// bundle opens the stored bundle, as the client does.
func (w *world) bundle(t *testing.T, p *process, id string) *cert.Bundle {
	t.Helper()
	sealed, err := p.store.BundleFor(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := seal.Open(sealed.Ciphertext, w.identity); !errors.Is(err, seal.ErrNotForUs) { // A10
		t.Errorf("the proxy opens the client's bundle: %d bytes, %v", len(got), err)
	}
	plain, err := seal.Open(sealed.Ciphertext, w.client)
	if err != nil {
		t.Fatal(err)
	}
	b, err := cert.ParseBundle(plain)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// noPlaintext looks for keys in all files of the database (A11).
func (w *world) noPlaintext(t *testing.T, keys ...*ecdsa.PrivateKey) {
	t.Helper()
	files, err := os.ReadDir(w.dir)
	if err != nil || len(files) < 2 { // the database and its write-ahead log
		t.Fatalf("%v, %v", files, err)
	}
	for _, f := range files {
		data, err := os.ReadFile(filepath.Join(w.dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(data, []byte("PRIVATE KEY")) {
			t.Errorf("%s holds a PEM key", f.Name())
		}
		for _, key := range keys {
			scalar, err := key.Bytes()
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(data, scalar) {
				t.Errorf("%s holds the key", f.Name())
			}
		}
	}
}

func TestObtain(t *testing.T) { // A10, A11, A13
	w := newWorld(t, pebbletest.Options{})
	p := w.start(t, nil)
	m := p.want(t, managed.Certificate{Names: []string{"a.example.com", "b.example.com"}, KeyType: "ec256"})
	p.tick(t)
	row, first := p.row(t, m.ID), w.bundle(t, p, m.ID)
	if names, err := first.Names(); err != nil || names.Key() != "a.example.com,b.example.com" {
		t.Errorf("names %s, %v", names, err)
	}
	if row.Serial != first.Serial() || row.Failures != 0 || row.LeaseOwner != "" || row.ETag == "" || p.journal(t, m.ID) != nil {
		t.Errorf("%+v, journal %v", row, p.journal(t, m.ID))
	}
	if id, err := acme.CertID(first.Leaf); err != nil || row.ARIID != id || row.CA != w.ca.DirectoryURL || !row.ARICheckAt.IsZero() {
		t.Errorf("CA %q, ARI id %q, want %q, %v", row.CA, row.ARIID, id, err)
	}
	life := first.NotAfter().Sub(first.Leaf.NotBefore)
	if early, late := first.RenewAt().Add(-life/20), first.RenewAt(); row.DueAt.Before(early.Truncate(time.Millisecond)) || row.DueAt.After(late) {
		t.Errorf("due at %s, want between %s and %s", row.DueAt, early, late)
	}
	p.tick(t) // nothing is due
	if n := w.newOrders(); n != 1 {
		t.Errorf("%d orders, want 1", n)
	}
	w.pass(61 * 24 * time.Hour)
	p.tick(t)
	second := w.bundle(t, p, m.ID)
	if second.Serial() == first.Serial() || cert.SameKey(first.Key.Public(), second.Key.Public()) || w.newOrders() != 2 {
		t.Errorf("renewed: serial %s after %s, %d orders", second.Serial(), first.Serial(), w.newOrders())
	}
	// The new certificate looks used up by our clock, which is wrong by then:
	// that must not end in a circle.
	if row := p.row(t, m.ID); row.DueAt.Before(w.now().Add(8 * 24 * time.Hour)) {
		t.Errorf("due again at %s, now is %s", row.DueAt, w.now())
	}
	w.noPlaintext(t, first.Key.(*ecdsa.PrivateKey), second.Key.(*ecdsa.PrivateKey))
}

// With a client's CSR there is no key to journal or to seal (D12).
func TestObtainWithCSR(t *testing.T) {
	w := newWorld(t, pebbletest.Options{})
	p := w.start(t, nil)
	key, err := cert.GenerateKey(cert.EC384)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := cert.NewCSR(key, cert.Names{"a.example.com"})
	if err != nil {
		t.Fatal(err)
	}
	m := p.want(t, managed.Certificate{Names: []string{"a.example.com"}, KeyType: "ec384", CSR: csr})
	p.tick(t)
	if b := w.bundle(t, p, m.ID); b.Key != nil || !cert.SameKey(b.Leaf.PublicKey, key.Public()) {
		t.Errorf("the certificate is not for the CSR's key, or a key came with it: %v", b.Key)
	}
}

// death ends a goroutine where a process would be killed: neither Issue nor its
// caller continues.
type death struct {
	renewal.Issuer
	onOrder bool       // once the journal is written
	stage   acme.Stage // or here
	done    bool       // or when the certificate was received
	died    atomic.Bool
}

func (d *death) die() {
	d.died.Store(true)
	runtime.Goexit()
}

func (d *death) Issue(ctx context.Context, req cert.Request, _ func(acme.Event)) (*cert.Bundle, error) {
	save := req.OnOrder
	req.OnOrder = func(ctx context.Context, order cert.Order) error {
		err := save(ctx, order)
		if d.onOrder {
			d.die()
		}
		return err
	}
	b, err := d.Issuer.Issue(ctx, req, func(e acme.Event) {
		if e.Stage == d.stage {
			d.die()
		}
	})
	if d.done && err == nil {
		d.die()
	}
	return b, err
}

// After a process dies at any step, the next one finishes the same order with the
// same key, once the lease is over (X7).
func TestDeath(t *testing.T) {
	for _, c := range []struct {
		name      string
		at        *death
		journal   bool // the entry exists after the death
		maxOrders int
	}{
		{"before the order", &death{stage: acme.Ordering}, false, 1},
		{"order saved", &death{onOrder: true}, true, 1},
		// The CA connects to port 80 while no process listens: then the order is
		// invalid, and only another one helps.
		{"challenges begun", &death{stage: acme.Validating}, true, 2},
		{"validated", &death{stage: acme.Finalizing}, true, 1},
		{"finalize sent", &death{stage: acme.Issuing}, true, 1},
		{"certificate here, not stored", &death{done: true}, true, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, pebbletest.Options{})
			killer := c.at
			first := w.start(t, func(cfg *renewal.Config) {
				killer.Issuer = cfg.Issuer
				cfg.Issuer = killer
			})
			m := first.want(t, managed.Certificate{Names: []string{"a.example.com", "b.example.com"}, KeyType: "ec256"})
			first.tick(t)
			if !killer.died.Load() {
				t.Fatal("the process lives")
			}
			before := first.journal(t, m.ID)
			if (before != nil) != c.journal {
				t.Fatalf("journal %+v", before)
			}
			w.noPlaintext(t)

			second := w.start(t, nil)
			second.tick(t)
			if row := second.row(t, m.ID); row.Serial != "" || row.Failures != 0 || row.LeaseOwner == "" {
				t.Errorf("the second process did not wait for the lease: %+v", row)
			}
			w.pass(3 * time.Minute)
			second.tick(t)
			b := w.bundle(t, second, m.ID)
			if n := w.newOrders(); n < 1 || n > c.maxOrders {
				t.Errorf("%d orders, want %d", n, c.maxOrders)
			}
			if left := second.journal(t, m.ID); left != nil {
				t.Errorf("the journal still has %s", left.URL)
			}
			if before != nil {
				csr, err := cert.ParseCSR(before.CSR)
				if err != nil {
					t.Fatal(err)
				}
				if !cert.SameKey(csr.Public, b.Key.Public()) {
					t.Error("the certificate is for another key than the journal's")
				}
			}
			w.noPlaintext(t, b.Key.(*ecdsa.PrivateKey))
			second.tick(t)
			if n := w.newOrders(); n > c.maxOrders {
				t.Errorf("%d orders, want %d", n, c.maxOrders)
			}
		})
	}
}

// A crash loop that kills each attempt while the CA validates costs three more orders in
// an hour. Then the reason of the CA is the result, and the usual delays follow (X44).
func TestDeaths(t *testing.T) {
	w := newWorld(t, pebbletest.Options{})
	var m managed.Certificate
	var p *process
	for n := 1; ; n++ {
		killer := &death{stage: acme.Validating}
		p = w.start(t, func(cfg *renewal.Config) {
			killer.Issuer = cfg.Issuer
			cfg.Issuer = killer
		})
		w.port80.Store(responder.New()) // without the answers
		if n == 1 {
			m = p.want(t, managed.Certificate{Names: []string{"a.example.com"}, KeyType: "ec256"})
		}
		p.tick(t)
		if !killer.died.Load() || n > 9 {
			break
		}
		watch.Until(t, "the CA has found no answer", func() bool { return strings.Count(w.ca.Log(), "INVALID") >= n })
		w.pass(3 * time.Minute)
	}
	row := p.row(t, m.ID)
	if n := w.newOrders(); n != 4 || row.Failures != 1 || p.journal(t, m.ID) != nil {
		t.Errorf("%d orders, want 4; %+v, journal %v", n, row, p.journal(t, m.ID))
	}
	if !strings.Contains(row.LastError, "a.example.com") {
		t.Errorf("the reason is %q", row.LastError)
	}
	w.pass(time.Minute)
	last := w.start(t, nil)
	last.tick(t)
	w.bundle(t, last, m.ID)
	if n := w.newOrders(); n != 5 {
		t.Errorf("%d orders, want 5", n)
	}
}

// After the bundle is stored, dying costs nothing.
func TestDeathAfterTheEnd(t *testing.T) {
	w := newWorld(t, pebbletest.Options{})
	first := w.start(t, func(cfg *renewal.Config) {
		cfg.Modes["test"] = mode{w.client.Recipient(), runtime.Goexit}
	})
	m := first.want(t, managed.Certificate{Names: []string{"a.example.com"}, KeyType: "ec256"})
	first.tick(t)
	serial := w.bundle(t, first, m.ID).Serial()
	w.pass(3 * time.Minute)
	second := w.start(t, nil)
	second.tick(t)
	if got := w.bundle(t, second, m.ID).Serial(); got != serial || w.newOrders() != 1 || second.journal(t, m.ID) != nil {
		t.Errorf("serial %s, want %s; %d orders", got, serial, w.newOrders())
	}
}

// withoutCA is an Issuer that no longer has the CA of any order.
type withoutCA struct{ renewal.Issuer }

func (withoutCA) HasCA(string) bool { return false }

// A new order begins if the one in the journal cannot be continued: the identity
// file was replaced, or the issuer does not have the order's CA any more.
func TestJournalOfAnotherTime(t *testing.T) {
	other, err := seal.GenerateIdentity()
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*renewal.Config){
		"identity": func(cfg *renewal.Config) { cfg.Identity = other },
		"CA":       func(cfg *renewal.Config) { cfg.Issuer = withoutCA{cfg.Issuer} },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, pebbletest.Options{})
			killer := &death{onOrder: true}
			first := w.start(t, func(cfg *renewal.Config) {
				killer.Issuer = cfg.Issuer
				cfg.Issuer = killer
			})
			m := first.want(t, managed.Certificate{Names: []string{"a.example.com"}, KeyType: "ec256"})
			first.tick(t)
			w.pass(3 * time.Minute)
			second := w.start(t, change)
			second.tick(t)
			if b := w.bundle(t, second, m.ID); b.Key == nil || w.newOrders() != 2 || second.journal(t, m.ID) != nil {
				t.Errorf("key %v, %d orders", b.Key, w.newOrders())
			}
		})
	}
}

// spy is an Issuer that records which CAs were asked.
type spy struct {
	renewal.Issuer
	cas []string
}

func (s *spy) Issue(ctx context.Context, req cert.Request, emit func(acme.Event)) (*cert.Bundle, error) {
	s.cas = append(s.cas, req.CA)
	return s.Issuer.Issue(ctx, req, emit)
}

// An order is continued at the CA that has it, even if the default CA has changed.
func TestJournalNamesCA(t *testing.T) {
	w := newWorld(t, pebbletest.Options{})
	var seen spy
	killer := &death{onOrder: true, Issuer: &seen}
	first := w.start(t, func(cfg *renewal.Config) { seen.Issuer, cfg.Issuer = cfg.Issuer, killer })
	m := first.want(t, managed.Certificate{Names: []string{"a.example.com"}, KeyType: "ec256"})
	first.tick(t)
	w.pass(3 * time.Minute)
	second := w.start(t, func(cfg *renewal.Config) {
		seen.Issuer, cfg.Issuer = cfg.Issuer, &seen
		cfg.DirectoryURL += "?other"
	})
	second.tick(t)
	if b := w.bundle(t, second, m.ID); b.Key == nil || w.newOrders() != 1 || !slices.Equal(seen.cas, []string{"", w.ca.DirectoryURL}) {
		t.Errorf("%d orders, CAs asked: %q", w.newOrders(), seen.cas)
	}
}

// fault answers one kind of request with a status, while it is on.
type fault struct {
	kind   string
	status int
	on     atomic.Bool
}

func (f *fault) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !f.on.Load() || pebbletest.Kind(r) != f.kind {
			next.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(f.status)
		fmt.Fprint(w, `{"type":"urn:ietf:params:acme:error:serverInternal","detail":"busy"}`)
	})
}

// A CA that fails costs time, not another order (X7).
func TestTemporaryFailureKeepsTheJournal(t *testing.T) {
	f := &fault{kind: pebbletest.Finalize, status: http.StatusServiceUnavailable}
	f.on.Store(true)
	w := newWorld(t, pebbletest.Options{Wrap: f.wrap})
	p := w.start(t, nil)
	m := p.want(t, managed.Certificate{Names: []string{"a.example.com"}, KeyType: "ec256"})
	p.tick(t)
	row, journal := p.row(t, m.ID), p.journal(t, m.ID)
	if row.Failures != 1 || !strings.Contains(row.LastError, "busy") || row.LeaseOwner != "" || journal == nil {
		t.Fatalf("%+v, journal %v", row, journal)
	}
	if wait := row.DueAt.Sub(w.now()); wait <= 0 || wait > 10*time.Second {
		t.Errorf("next attempt in %s, want within ten seconds", wait)
	}
	f.on.Store(false)
	w.pass(11 * time.Second)
	p.tick(t)
	w.bundle(t, p, m.ID)
	if row := p.row(t, m.ID); row.Failures != 0 || row.LastError != "" || w.newOrders() != 1 || p.journal(t, m.ID) != nil {
		t.Errorf("%+v, %d orders", row, w.newOrders())
	}
}

// An order that can never be finished is deleted. The failure stays in the row, with
// the name that it is about.
func TestPermanentFailureDropsTheJournal(t *testing.T) {
	w := newWorld(t, pebbletest.Options{})
	p := w.start(t, nil)
	w.port80.Store(responder.New()) // another one: the CA's fetches fail
	m := p.want(t, managed.Certificate{Names: []string{"a.example.com"}, KeyType: "ec256"})
	p.tick(t)
	row := p.row(t, m.ID)
	if row.Failures != 1 || !strings.Contains(row.LastError, "a.example.com") || row.LeaseOwner != "" || p.journal(t, m.ID) != nil {
		t.Errorf("%+v, journal %v", row, p.journal(t, m.ID))
	}
	if wait := row.DueAt.Sub(w.now()); wait < 50*time.Second || wait > time.Minute {
		t.Errorf("next attempt in %s, want a minute", wait)
	}
}
