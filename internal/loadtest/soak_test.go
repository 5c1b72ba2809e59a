package loadtest_test

import (
	"errors"
	"fmt"
	"hash/fnv"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/internal/watch"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/cert/certfile"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/proxy"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
	"github.com/acmeproxy/acmeproxy/pkg/remote"
)

// unreliable makes one request in twenty to a CA fail. The fate of the n-th request
// of a kind depends only on the seed.
type unreliable struct {
	seed uint64

	mu      sync.Mutex
	seen    map[string]int // requests by kind; guarded by mu
	failed  int            // guarded by mu
	created int            // orders; guarded by mu
	lost    int            // orders whose answer did not arrive; guarded by mu
}

const oneIn = 20

func (u *unreliable) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		kind := pebbletest.Kind(r)
		fate := u.fate(kind)
		switch fate {
		case 1:
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusInternalServerError)
			fmt.Fprint(w, `{"type":"urn:ietf:params:acme:error:serverInternal","detail":"try again"}`)
		case 2:
			http.Error(w, "busy", http.StatusServiceUnavailable)
		case 3:
			w.Header().Set("Retry-After", "1")
			http.Error(w, "busy", http.StatusServiceUnavailable)
		case 4:
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, `{"type":"urn:ietf:params:acme:error:malformed","detail":"not found"}`)
		case 5:
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, "<html>Your request was blocked")
		case 6:
			panic(http.ErrAbortHandler)
		default:
			u.pass(w, r, next, kind, fate == 7)
		}
	})
}

// fate returns the number of a fault, from 1 to 7. Higher numbers mean no fault.
func (u *unreliable) fate(kind string) uint64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.seen == nil {
		u.seen = map[string]int{}
	}
	u.seen[kind]++
	h := fnv.New64a()
	fmt.Fprintf(h, "%d %s %d", u.seed, kind, u.seen[kind])
	mixed := h.Sum64()
	mixed ^= mixed >> 33
	mixed *= 0xff51afd7ed558ccd
	mixed ^= mixed >> 33
	fate := 1 + mixed%(7*oneIn)
	if fate <= 7 {
		u.failed++
	}
	return fate
}

// pass lets Pebble answer. If cut is set, it closes the connection instead of sending
// the answer.
func (u *unreliable) pass(w http.ResponseWriter, r *http.Request, next http.Handler, kind string, cut bool) {
	answer := httptest.NewRecorder()
	next.ServeHTTP(answer, r)
	if kind == pebbletest.NewOrder && answer.Code == http.StatusCreated {
		u.mu.Lock()
		u.created++
		if cut {
			u.lost++
		}
		u.mu.Unlock()
	}
	if cut {
		panic(http.ErrAbortHandler)
	}
	for name, values := range answer.Header() {
		w.Header()[name] = values
	}
	w.WriteHeader(answer.Code)
	w.Write(answer.Body.Bytes())
}

// soakSize returns the number of certificates for each mode and the seed.
// ACMEPROXY_SOAK and ACMEPROXY_SOAK_SEED override them.
func soakSize(t *testing.T) (certificates int, seed uint64) {
	t.Helper()
	certificates, seed = 100, 1
	if testing.Short() || proxytest.RaceDetector {
		certificates = 40
	}
	for name, set := range map[string]func(uint64){
		"ACMEPROXY_SOAK":      func(n uint64) { certificates = int(n) },
		"ACMEPROXY_SOAK_SEED": func(n uint64) { seed = n },
	} {
		if value := os.Getenv(name); value != "" {
			n, err := strconv.ParseUint(value, 10, 31)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			set(n)
		}
	}
	return certificates, seed
}

// With one request in twenty failing at random, a certificate costs at most
// 1.02 orders in every mode (X7).
func TestSoakOfAnUnreliableCA(t *testing.T) {
	certificates, seed := soakSize(t)
	list := make([]string, certificates)
	for i := range list {
		list[i] = fmt.Sprintf("n%d.soak.example.com", i)
	}
	for _, mode := range []clients.Mode{clients.ModeGateway, clients.ModeAgent, clients.ModeClient} {
		t.Run(string(mode), func(t *testing.T) {
			ca := &unreliable{seed: seed}
			var clk proxytest.Clock
			p := proxytest.Start(t, proxytest.Options{Pebble: pebbletest.Options{Wrap: ca.wrap}, Change: clk.On(func(c *proxy.Config) {
				c.DefaultDailyQuota, c.MaxClientCertificates = "0", certificates
				if mode == clients.ModeClient {
					c.Domains = list
				}
			})})
			began := time.Now()
			var tries int
			if mode == clients.ModeClient {
				tries = soakClient(t, p, &clk, list)
			} else {
				tries = soakRemote(t, p, &clk, mode, list)
			}
			ca.mu.Lock()
			defer ca.mu.Unlock()
			perCertificate := float64(ca.created) / float64(certificates)
			t.Logf("%s: %d certificates installed, %d orders (%.3f each, %d whose answer was lost), %d of %d requests failed, %d failed attempts, %v",
				mode, certificates, ca.created, perCertificate, ca.lost, ca.failed, p.CA.Requests().Total(), tries, time.Since(began).Round(time.Second))
			// A lost answer to newOrder is the only fault that costs an order.
			if ca.created-ca.lost > certificates {
				t.Errorf("%d orders for %d certificates, of which %d were lost", ca.created, certificates, ca.lost)
			}
			if certificates >= 100 && perCertificate > 1.02 {
				t.Errorf("%.3f orders for each certificate, want 1.02 at most", perCertificate)
			}
		})
	}
}

// soakRemote installs all certificates through a real remote and returns the number
// of failed attempts.
func soakRemote(t *testing.T, p *proxytest.Proxy, clk *proxytest.Clock, mode clients.Mode, list []string) (failures int) {
	t.Helper()
	host := p.Enroll(t, "web1", proxytest.Grant(mode, "*.soak.example.com"))
	getter, err := host.Getter(nil)
	if err != nil {
		t.Fatal(err)
	}
	out := t.TempDir()
	// The clock moves only while no attempt is in flight, which would lose its lease.
	var inFlight sync.RWMutex
	get := func(w remote.Wanted) error {
		inFlight.RLock()
		defer inFlight.RUnlock()
		_, err := getter.Get(t.Context(), w)
		return err
	}
	one := func(name string) error {
		w := remote.Wanted{Names: cert.Names{name}, Mode: mode, KeyType: cert.EC256, Out: filepath.Join(out, name)}
		var last error
		for range 20 {
			if last = get(w); last == nil {
				return nil
			}
			t.Logf("an attempt failed: %v", last)
			inFlight.Lock()
			failures++
			clk.Advance(time.Hour) // ends the proxy's pause
			inFlight.Unlock()
			p.Renewals.Wake()
		}
		return fmt.Errorf("%s: %w", name, last)
	}
	var group errgroup.Group
	group.SetLimit(8)
	for _, name := range list {
		group.Go(func() error { return one(name) })
	}
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
	return failures
}

// soakClient waits until all files exist and returns the number of failed attempts.
func soakClient(t *testing.T, p *proxytest.Proxy, clk *proxytest.Clock, list []string) int {
	t.Helper()
	missing := func() (names []string) {
		for _, name := range list {
			if _, err := certfile.Read(filepath.Join(p.DataDir, "certs", name)); errors.Is(err, os.ErrNotExist) {
				names = append(names, name)
			}
		}
		return names
	}
	failures := func() int { return strings.Count(p.Log(), "no certificate yet") }
	obtained := func() int { return strings.Count(p.Log(), "certificate obtained") }
	for before := 0; obtained() < len(list); before = failures() {
		if before > len(list) {
			t.Fatalf("%d attempts failed", before)
		}
		if before > 0 {
			clk.Advance(time.Hour) // ends the pauses
		}
		p.Tick(t)
		watch.Until(t, "each missing certificate was tried once more", func() bool {
			return obtained()+failures()-before >= len(list)
		})
	}
	watch.Until(t, "all files are there", func() bool { return len(missing()) == 0 })
	return failures()
}

// firstOfEach makes the first request to each URL of a kind fail.
type firstOfEach struct {
	kind  string
	fault func(http.ResponseWriter, *http.Request, http.Handler)

	mu   sync.Mutex
	seen map[string]bool // guarded by mu
}

func (f *firstOfEach) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		first := pebbletest.Kind(r) == f.kind && !f.seen[r.URL.Path]
		if first {
			if f.seen == nil {
				f.seen = map[string]bool{}
			}
			f.seen[r.URL.Path] = true
		}
		f.mu.Unlock()
		if first {
			f.fault(w, r, next)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// A CA that fails once in each order, always for the same request, costs no order
// and no attempt, even in the mode without a journal.
func TestOneFaultInEachOrder(t *testing.T) {
	failWith := func(status int) func(http.ResponseWriter, *http.Request, http.Handler) {
		return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) { http.Error(w, "out of order", status) }
	}
	lost := func(_ http.ResponseWriter, r *http.Request, next http.Handler) {
		next.ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	}
	for name, ca := range map[string]*firstOfEach{
		"503 on one poll":       {kind: pebbletest.Order, fault: failWith(http.StatusServiceUnavailable)},
		"503 on the download":   {kind: pebbletest.Certificate, fault: failWith(http.StatusServiceUnavailable)},
		"404 on the download":   {kind: pebbletest.Certificate, fault: failWith(http.StatusNotFound)},
		"challenge answer lost": {kind: pebbletest.Challenge, fault: lost},
		"finalize answer lost":  {kind: pebbletest.Finalize, fault: lost},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := proxytest.Start(t, proxytest.Options{Pebble: pebbletest.Options{Wrap: ca.wrap}})
			host := p.Enroll(t, "web1", proxytest.Grant(clients.ModeGateway, "*.example.com"))
			const certificates = 5
			failed := 0
			for i := range certificates {
				if _, err := proxytest.Get(t, host, clients.ModeGateway, fmt.Sprintf("n%d.example.com", i)); err != nil {
					failed++
					t.Error(err)
				}
			}
			if n := p.CA.Requests().Count(pebbletest.NewOrder); n != certificates {
				t.Errorf("%d orders for %d certificates, %d attempts failed", n, certificates, failed)
			}
		})
	}
}
