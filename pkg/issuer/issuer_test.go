package issuer_test

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/challenge"
	"github.com/acmeproxy/acmeproxy/pkg/challenge/dns01"
	"github.com/acmeproxy/acmeproxy/pkg/issuer"
	"github.com/acmeproxy/acmeproxy/pkg/responder"
)

// memoryAccounts stores one account for a test.
type memoryAccounts struct {
	mu    sync.Mutex
	key   crypto.Signer
	url   string
	email string
	made  int // accounts registered
}

func (m *memoryAccounts) Account(context.Context, string) (crypto.Signer, string, string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.key == nil {
		var err error
		if m.key, err = cert.GenerateKey(cert.EC256); err != nil {
			return nil, "", "", err
		}
	}
	return m.key, m.url, m.email, nil
}

func (m *memoryAccounts) SetURL(_ context.Context, _, url, email string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.url, m.email = url, email
	if url != "" {
		m.made++
	}
	return nil
}

// testConfig holds an issuer's configuration and that of its solvers. The first of
// HTTPHook, Webroot and Responder answers HTTP-01.
type testConfig struct {
	issuer.CAConfig
	Responder *responder.Responder
	Webroot   string
	HTTPHook  string
	TLSALPN   *responder.TLSALPN
	DNS       *dns01.Config
	InFlight  int
}

// instance is an issuer with its own solvers.
type instance struct {
	*issuer.Pool
	config  issuer.CAConfig
	solvers map[string]challenge.Solver
}

// Close closes the issuer and its solvers.
func (i *instance) Close() error {
	errs := []error{i.Pool.Close()}
	for _, s := range i.solvers {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}

func newInstance(cfg testConfig) (*instance, error) {
	solvers := map[string]challenge.Solver{}
	memory := challenge.Memory{HTTP01: cfg.Responder, TLSALPN: cfg.TLSALPN}
	switch {
	case cfg.HTTPHook != "":
		solvers[acme.HTTP01] = challenge.FromHook(challenge.HookConfig{Command: cfg.HTTPHook, Environ: os.Environ(), Logger: slog.New(slog.DiscardHandler)})
	case cfg.Webroot != "":
		s, err := challenge.FromWebroot(cfg.Webroot, nil)
		if err != nil {
			return nil, err
		}
		solvers[acme.HTTP01] = s
	case cfg.Responder != nil:
		solvers[acme.HTTP01] = challenge.FromMemory(acme.HTTP01, memory)
	}
	if cfg.TLSALPN != nil {
		solvers[acme.TLSALPN01] = challenge.FromMemory(acme.TLSALPN01, memory)
	}
	if cfg.DNS != nil {
		s, err := dns01.New(*cfg.DNS)
		if err != nil {
			return nil, err
		}
		solvers[acme.DNS01] = s
	}
	cfg.Solvers = solvers
	is, err := issuer.NewPool(issuer.PoolConfig{CAs: []issuer.CAConfig{cfg.CAConfig}, InFlight: cfg.InFlight})
	return &instance{is, cfg.CAConfig, solvers}, err
}

// env is an issuer that uses a Pebble, with a responder on the CA's port 80.
type env struct {
	ca        *pebbletest.CA
	issuer    *instance
	accounts  *memoryAccounts
	config    issuer.CAConfig // of the latest instance
	responder *responder.Responder
}

func start(t testing.TB, opts pebbletest.Options, change func(*testConfig)) *env {
	t.Helper()
	return startBehind(t, opts, nil, change)
}

// startBehind is like start. If web is not nil, it serves port 80.
func startBehind(t testing.TB, opts pebbletest.Options, web http.Handler, change func(*testConfig)) *env {
	t.Helper()
	e := &env{ca: pebbletest.Start(t, opts), accounts: &memoryAccounts{}, responder: responder.New()}
	if web == nil {
		web = e.responder
	}
	serve80(t, e.ca.HTTPPort, web)
	e.issuer = e.another(t, change)
	e.config = e.issuer.config
	return e
}

// another creates an issuer with the same account.
func (e *env) another(t testing.TB, change func(*testConfig)) *instance {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(e.ca.ServerCAPEM)
	cfg := testConfig{Responder: e.responder, CAConfig: issuer.CAConfig{
		DirectoryURL: e.ca.DirectoryURL, Accounts: e.accounts,
		AcceptTOS: true, RootCAs: roots, UserAgent: "acmeproxy/test",
	}}
	if change != nil {
		change(&cfg)
	}
	is, err := newInstance(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return is
}

func serve80(t testing.TB, port int, h http.Handler) {
	t.Helper()
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("port 80: %v", err)
		}
	})
}

func names(t testing.TB, list ...string) cert.Names {
	t.Helper()
	n, err := cert.ParseNames(list...)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func ec(n cert.Names) cert.Request { return cert.Request{Names: n, KeyType: cert.EC256} }

// One certificate costs seven requests, N names 2N+5 (budgets).
func TestRequestsPerCertificate(t *testing.T) {
	e := start(t, pebbletest.Options{}, nil)
	if _, err := e.issuer.Issue(t.Context(), ec(names(t, "warm.example.com")), nil); err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{1, 10} {
		var totals []int
		for round := range 9 {
			var list []string
			for i := range n {
				list = append(list, fmt.Sprintf("h%d-%d-%d.example.com", n, round, i))
			}
			e.ca.Requests().Reset()
			if _, err := e.issuer.Issue(t.Context(), ec(names(t, list...)), nil); err != nil {
				t.Fatal(err)
			}
			totals = append(totals, e.ca.Requests().Total())
		}
		// On a busy machine a poll may come too soon and cost one more.
		if want := 2*n + 5; slices.Min(totals) != want {
			t.Errorf("%d names cost %v requests, want %d at best", n, totals, want)
		}
	}
}

// A certificate whose authorizations are still valid costs four (budgets).
func TestRequestsWithReusedAuthorizations(t *testing.T) {
	e := start(t, pebbletest.Options{AuthzReuse: 100}, nil)
	n := names(t, "reuse.example.com")
	if _, err := e.issuer.Issue(t.Context(), ec(n), nil); err != nil {
		t.Fatal(err)
	}
	var totals []int
	for range 9 {
		e.ca.Requests().Reset()
		if _, err := e.issuer.Issue(t.Context(), ec(n), nil); err != nil {
			t.Fatal(err)
		}
		totals = append(totals, e.ca.Requests().Total())
	}
	if slices.Min(totals) != 4 {
		t.Errorf("%v requests, want 4 at best", totals)
	}
}

// The account is created once for several concurrent issuances, and stored (A28).
func TestAccountIsCreatedOnce(t *testing.T) {
	e := start(t, pebbletest.Options{}, nil)
	var g errgroup.Group
	for i := range 8 {
		g.Go(func() error {
			_, err := e.issuer.Issue(t.Context(), ec(names(t, fmt.Sprintf("a%d.example.com", i))), nil)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if e.accounts.made != 1 || e.ca.Requests().Count(pebbletest.NewAccount) != 1 {
		t.Errorf("%d accounts kept, %d newAccount requests, want 1 and 1", e.accounts.made, e.ca.Requests().Count(pebbletest.NewAccount))
	}
}

// Each of several identifiers gets its own key authorization (A43), and all
// are gone afterwards (A3).
func TestParallelIssuances(t *testing.T) {
	e := start(t, pebbletest.Options{}, nil)
	var g errgroup.Group
	for i := range 10 {
		g.Go(func() error {
			n := names(t, fmt.Sprintf("p%d.example.com", i), fmt.Sprintf("q%d.example.com", i))
			b, err := e.issuer.Issue(t.Context(), ec(n), nil)
			if err != nil {
				return err
			}
			got, err := b.Names()
			if err != nil {
				return err
			}
			if !got.Equal(n) {
				return fmt.Errorf("certificate for %s, want %s", got, n)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if n := e.responder.Len(); n != 0 {
		t.Errorf("%d tokens are still answered", n)
	}
}

func TestKeyTypes(t *testing.T) { // A30
	e := start(t, pebbletest.Options{}, nil)
	for _, kt := range []cert.KeyType{cert.EC256, cert.EC384, cert.RSA2048, cert.RSA4096} {
		b, err := e.issuer.Issue(t.Context(), cert.Request{Names: names(t, string(kt)+".example.com"), KeyType: kt}, nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := cert.KeyTypeOf(b.Leaf.PublicKey)
		if err != nil || got != kt {
			t.Errorf("key type %s, %v; want %s", got, err, kt)
		}
		if !cert.SameKey(b.Key.Public(), b.Leaf.PublicKey) {
			t.Errorf("%s: the key is not the certificate's", kt)
		}
	}
}

// A30: a key of 8192 bits is the client's, because generating one takes too long here.
func TestKeyOf8192Bits(t *testing.T) {
	text, err := os.ReadFile("testdata/rsa8192.csr") // by openssl; its key was thrown away
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	e := start(t, pebbletest.Options{}, nil)
	b, err := e.issuer.Issue(t.Context(), cert.Request{CSR: block.Bytes}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := cert.KeyTypeOf(b.Leaf.PublicKey); err != nil || got != cert.RSA8192 {
		t.Errorf("key type %s, %v", got, err)
	}
}

func TestEvents(t *testing.T) {
	e := start(t, pebbletest.Options{}, nil)
	var got []string
	_, err := e.issuer.Issue(t.Context(), ec(names(t, "events.example.com")), func(ev acme.Event) {
		got = append(got, strings.TrimSpace(string(ev.Stage)+" "+ev.Identifier))
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"ordering", "challenge events.example.com", "validating", "finalizing", "issuing", "issued"}
	if !slices.Equal(got, want) {
		t.Errorf("events %q, want %q", got, want)
	}
}

// A client's CSR is used as it is; the bundle has no key.
func TestCSR(t *testing.T) {
	e := start(t, pebbletest.Options{}, nil)
	key, err := cert.GenerateKey(cert.EC384)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := cert.NewCSR(key, names(t, "csr.example.com"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := e.issuer.Issue(t.Context(), cert.Request{CSR: csr}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if b.Key != nil || !cert.SameKey(key.Public(), b.Leaf.PublicKey) {
		t.Error("the certificate is not for the CSR's key")
	}
	if _, err := e.issuer.Issue(t.Context(), cert.Request{CSR: csr, Names: names(t, "other.example.com")}, nil); err == nil {
		t.Error("names that the CSR does not hold were accepted")
	}
}

// Impossible requests are refused before a request to the CA.
func TestRefusedBeforeAnOrder(t *testing.T) {
	e := start(t, pebbletest.Options{}, nil)
	_, err := e.issuer.Issue(t.Context(), ec(names(t, "*.example.com")), nil)
	var failed *acme.Error
	if !errors.As(err, &failed) || failed.Kind != acme.Permanent || !strings.Contains(err.Error(), "DNS-01") {
		t.Errorf("wildcard: %v, want a permanent error that names DNS-01", err)
	}
	if n := e.ca.Requests().Total(); n != 0 {
		t.Errorf("%d requests reached the CA", n)
	}
}

// The journal is written once the order exists and before anything else is
// sent for it; an error there ends the issuance.
func TestOnOrderComesFirst(t *testing.T) {
	e := start(t, pebbletest.Options{}, nil)
	req := ec(names(t, "journal.example.com"))
	req.OnOrder = func(_ context.Context, url cert.Order) error {
		if n := e.ca.Requests().Count(pebbletest.Authorization); n != 0 || url.URL == "" {
			t.Errorf("order %q: %d authorizations read before the journal was written", url.URL, n)
		}
		return errors.New("disk full")
	}
	_, err := e.issuer.Issue(t.Context(), req, nil)
	if err == nil || !strings.Contains(err.Error(), "disk full") {
		t.Errorf("error %v, want the journal's", err)
	}
	if n := e.ca.Requests().Count(pebbletest.Authorization); n != 0 {
		t.Errorf("the issuance continued without a journal: %d authorizations read", n)
	}
}

// An earlier order is finished, not created again (X7). An invalid or unknown one is
// replaced.
func TestResume(t *testing.T) {
	e := start(t, pebbletest.Options{}, nil)
	key, err := cert.GenerateKey(cert.EC256)
	if err != nil {
		t.Fatal(err)
	}
	n := names(t, "resume.example.com")
	csr, err := cert.NewCSR(key, n)
	if err != nil {
		t.Fatal(err)
	}
	var orderURL string
	first := cert.Request{CSR: csr, OnOrder: func(_ context.Context, url cert.Order) error {
		orderURL = url.URL
		return errors.New("killed here")
	}}
	if _, err := e.issuer.Issue(t.Context(), first, nil); err == nil {
		t.Fatal("the issuance did not stop")
	}
	e.ca.Requests().Reset()
	b, err := e.issuer.Issue(t.Context(), cert.Request{CSR: csr, Order: cert.Order{URL: orderURL}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := e.ca.Requests().Count(pebbletest.NewOrder); got != 0 {
		t.Errorf("%d new orders, want 0", got)
	}
	// The order is valid now: reading it again brings the same certificate.
	again, err := e.issuer.Issue(t.Context(), cert.Request{CSR: csr, Order: cert.Order{URL: orderURL}}, nil)
	if err != nil || again.Serial() != b.Serial() {
		t.Errorf("second resume: %v, %v; want serial %s", again, err, b.Serial())
	}
	// An order of another CA or time is replaced.
	var replaced string
	_, err = e.issuer.Issue(t.Context(), cert.Request{CSR: csr, Order: cert.Order{URL: orderURL + "gone"}, OnOrder: func(_ context.Context, url cert.Order) error {
		replaced = url.URL
		return nil
	}}, nil)
	if err != nil || replaced == "" {
		t.Errorf("order that is gone: %v, replaced by %q", err, replaced)
	}
}

// An account that the CA lost is registered again with the same key.
func TestLostAccount(t *testing.T) {
	e := start(t, pebbletest.Options{}, nil)
	e.accounts.url = e.ca.DirectoryURL[:strings.LastIndex(e.ca.DirectoryURL, "/")] + "/my-account/unknown"
	if _, err := e.issuer.Issue(t.Context(), ec(names(t, "lost.example.com")), nil); err != nil {
		t.Fatal(err)
	}
	if e.accounts.made != 1 || strings.HasSuffix(e.accounts.url, "unknown") {
		t.Errorf("account %s, made %d times", e.accounts.url, e.accounts.made)
	}
}

// Cancelling ends an issuance at once and removes its answers (A16, A36).
func TestCancel(t *testing.T) {
	e := start(t, pebbletest.Options{}, nil)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := e.issuer.Issue(ctx, ec(names(t, "cancel.example.com")), func(ev acme.Event) {
		if ev.Stage == acme.Challenge {
			cancel()
		}
	})
	var failed *acme.Error
	if !errors.As(err, &failed) || failed.Kind != acme.Temporary || !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want a temporary one that wraps context.Canceled", err)
	}
	if n := e.responder.Len(); n != 0 {
		t.Errorf("%d tokens are still answered", n)
	}
}

// A validation that fails names the identifier and the CA's reason.
func TestValidationFails(t *testing.T) {
	e := start(t, pebbletest.Options{}, nil)
	other := responder.New() // gets no requests
	is, err := newInstance(testConfig{Responder: other, CAConfig: issuer.CAConfig{
		DirectoryURL: e.ca.DirectoryURL, Accounts: e.accounts, AcceptTOS: true,
		Transport: e.ca.HTTPClient().Transport,
	}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = is.Issue(t.Context(), ec(names(t, "fails.example.com")), nil)
	var failed *acme.Error
	if !errors.As(err, &failed) || failed.Kind != acme.Permanent || failed.Identifier != "fails.example.com" || failed.Type == "" {
		t.Errorf("error %#v, want a permanent one for fails.example.com with the CA's type", err)
	}
}

// faults answers some requests instead of the CA.
type faults struct {
	kind   string
	times  atomic.Int32
	status int
	header map[string]string
	body   string
}

func (f *faults) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if pebbletest.Kind(r) != f.kind || f.times.Add(-1) < 0 {
			next.ServeHTTP(w, r)
			return
		}
		for k, v := range f.header {
			w.Header().Set(k, v)
		}
		w.WriteHeader(f.status)
		fmt.Fprint(w, f.body)
	})
}

// Any answer of a CA becomes a typed error, never a panic or a hang.
func TestMisbehavingCA(t *testing.T) {
	problem := func(typ string) string {
		return `{"type":"urn:ietf:params:acme:error:` + typ + `","detail":"says the CA"}`
	}
	big := strings.Repeat("x", 2<<20)
	for name, c := range map[string]struct {
		fault *faults
		kind  acme.Kind
		want  string
	}{
		"null order":               {&faults{kind: pebbletest.NewOrder, status: 201, body: "null"}, acme.Temporary, "empty document"},
		"null error":               {&faults{kind: pebbletest.NewOrder, status: 500, body: "null"}, acme.Temporary, "500"},
		"HTML error page":          {&faults{kind: pebbletest.NewOrder, status: 503, body: "<html>busy"}, acme.Temporary, "503"},
		"unbounded body":           {&faults{kind: pebbletest.NewOrder, status: 201, body: big}, acme.Temporary, "larger than"},
		"huge error":               {&faults{kind: pebbletest.NewOrder, status: 500, body: `{"detail":"` + big[:900<<10] + `"}`}, acme.Temporary, "xxx"},
		"rate limit":               {&faults{kind: pebbletest.NewOrder, status: 429, header: map[string]string{"Retry-After": "7200"}, body: problem("rateLimited")}, acme.RateLimited, "says the CA"},
		"rate limit as 503":        {&faults{kind: pebbletest.Finalize, status: 503, header: map[string]string{"Retry-After": "7200"}, body: problem("rateLimited")}, acme.RateLimited, "says the CA"},
		"rejected identifier":      {&faults{kind: pebbletest.NewOrder, status: 400, body: problem("rejectedIdentifier")}, acme.Permanent, "says the CA"},
		"no directory":             {&faults{kind: pebbletest.Directory, status: 200, body: "<html>welcome"}, acme.Temporary, "not an ACME directory"},
		"order without location":   {&faults{kind: pebbletest.NewOrder, status: 201, body: `{"status":"pending","identifiers":[{"type":"dns","value":"fault.example.com"}]}`}, acme.Temporary, "no URL for the order"},
		"other identifiers":        {&faults{kind: pebbletest.NewOrder, status: 201, body: `{"status":"pending","identifiers":[{"type":"dns","value":"evil.example.com"}]}`}, acme.Temporary, "modified"},
		"no certificate":           {&faults{kind: pebbletest.Certificate, status: 200, body: "not PEM"}, acme.Temporary, "no PEM certificate"},
		"account without location": {&faults{kind: pebbletest.NewAccount, status: 201, body: "{}"}, acme.Temporary, "no URL for the account"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := c.fault
			f.times.Store(1000) // a single answer would be retried
			e := start(t, pebbletest.Options{Wrap: f.wrap}, nil)
			began := time.Now()
			_, err := e.issuer.Issue(t.Context(), ec(names(t, "fault.example.com")), nil)
			var failed *acme.Error
			if !errors.As(err, &failed) {
				t.Fatalf("error %v, want an *acme.Error", err)
			}
			if failed.Kind != c.kind || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s error %q, want a %s one with %q", failed.Kind, err, c.kind, c.want)
			}
			if len(err.Error()) > 4096 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
			if after := f.header["Retry-After"]; after != "" && failed.RetryAt.Before(began.Add(time.Hour)) {
				t.Errorf("retry at %v, want what Retry-After: %s says", failed.RetryAt, after)
			}
			if n := e.responder.Len(); n != 0 {
				t.Errorf("%d tokens are still answered", n)
			}
		})
	}
}

// The issuance waits for a short Retry-After and continues.
func TestRetryAfterIsHonoured(t *testing.T) {
	f := &faults{kind: pebbletest.Order, status: 200, header: map[string]string{"Retry-After": "1"}, body: `{"status":"pending"}`}
	f.times.Store(1)
	e := start(t, pebbletest.Options{Wrap: f.wrap}, nil)
	began := time.Now()
	if _, err := e.issuer.Issue(t.Context(), ec(names(t, "wait.example.com")), nil); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < time.Second {
		t.Errorf("done after %v, although the CA asked for a second", took)
	}
}

// Requests with bad nonces are repeated (M55).
func TestBadNonces(t *testing.T) {
	e := start(t, pebbletest.Options{NonceReject: 10}, nil)
	if _, err := e.issuer.Issue(t.Context(), ec(names(t, "nonce.example.com")), nil); err != nil {
		t.Fatal(err)
	}
}

func TestTermsAndBinding(t *testing.T) {
	eab := map[string]string{"kid-1": "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"}
	e := start(t, pebbletest.Options{EAB: eab}, func(c *testConfig) { c.AcceptTOS = false })
	_, err := e.issuer.Issue(t.Context(), ec(names(t, "tos.example.com")), nil)
	if err == nil || !strings.Contains(err.Error(), "--accept-tos") {
		t.Errorf("terms not accepted: %v, want --accept-tos named", err)
	}
	e = start(t, pebbletest.Options{EAB: eab}, nil)
	_, err = e.issuer.Issue(t.Context(), ec(names(t, "eab.example.com")), nil)
	if err == nil || !strings.Contains(err.Error(), "--eab-kid") {
		t.Errorf("no binding: %v, want --eab-kid named", err)
	}
	e = start(t, pebbletest.Options{EAB: eab}, func(c *testConfig) {
		c.EAB = &issuer.EAB{Kid: "kid-1", HMACKey: eab["kid-1"]}
		c.Email = "ops@example.com"
	})
	if _, err := e.issuer.Issue(t.Context(), ec(names(t, "eab.example.com")), nil); err != nil {
		t.Error(err)
	}
	if e.accounts.email != "ops@example.com" { // A29
		t.Errorf("contact %q", e.accounts.email)
	}
}

// A CA with its own root is not trusted by default. The error says what to set (A33).
func TestUntrustedCA(t *testing.T) {
	e := start(t, pebbletest.Options{}, func(c *testConfig) { c.RootCAs = x509.NewCertPool() })
	_, err := e.issuer.Issue(t.Context(), ec(names(t, "root.example.com")), nil)
	var failed *acme.Error
	if !errors.As(err, &failed) || failed.Kind != acme.Temporary || !strings.Contains(err.Error(), "LEGO_CA_CERTIFICATES") {
		t.Errorf("error %v, want a temporary one that names LEGO_CA_CERTIFICATES", err)
	}
}

// Only InFlight issuances run at a time. The others are notified that they wait, and
// may give up.
func TestQueue(t *testing.T) {
	e := start(t, pebbletest.Options{}, func(c *testConfig) { c.InFlight = 1 })
	ctx, cancel := context.WithCancel(t.Context())
	held, free := make(chan struct{}), make(chan struct{})
	first := make(chan error, 1)
	go func() {
		_, err := e.issuer.Issue(t.Context(), ec(names(t, "first.example.com")), func(ev acme.Event) {
			if ev.Stage == acme.Ordering {
				close(held)
				<-free
			}
		})
		first <- err
	}()
	<-held
	_, err := e.issuer.Issue(ctx, ec(names(t, "second.example.com")), func(ev acme.Event) {
		if ev.Stage == acme.Queued {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
	close(free)
	if err := <-first; err != nil {
		t.Error(err)
	}
}

func newResponder() *responder.Responder { return responder.New() }
