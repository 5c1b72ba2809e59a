package proxy_test

import (
	"bytes"
	"crypto"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/frontend/admin"
	"github.com/acmeproxy/acmeproxy/pkg/proxy"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
	"github.com/acmeproxy/acmeproxy/pkg/seal"
)

// clock runs as fast as the real one, and some time ahead of it.
type clock struct{ ahead atomic.Int64 }

func (c *clock) Now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

func (c *clock) advance(d time.Duration) { c.ahead.Add(int64(d)) }

// on sets the clock of a proxy, besides what else is changed.
func (c *clock) on(changes ...func(*proxy.Config)) func(*proxy.Config) {
	return func(cfg *proxy.Config) {
		cfg.Now = c.Now
		for _, change := range changes {
			change(cfg)
		}
	}
}

// tick does what is due now, in whichever of Run and Tick comes first.
func tick(t testing.TB, p *proxytest.Proxy) {
	t.Helper()
	for _, loop := range []interface{ Wake() }{p.Renewals, p.Deployments} {
		loop.Wake()
	}
	if err := p.Renewals.Tick(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := p.Deployments.Tick(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// fault stands between the proxy and Pebble, as pebbletest.Options.Wrap.
type fault struct {
	trouble atomic.Pointer[func(w http.ResponseWriter, r *http.Request, next http.Handler)]
}

func (f *fault) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.serve(w, r, next)
	})
}

func (f *fault) serve(w http.ResponseWriter, r *http.Request, next http.Handler) {
	if trouble := f.trouble.Load(); trouble != nil {
		(*trouble)(w, r, next)
		return
	}
	next.ServeHTTP(w, r)
}

func (f *fault) set(trouble func(w http.ResponseWriter, r *http.Request, next http.Handler)) {
	f.trouble.Store(&trouble)
}

func (f *fault) mend() { f.trouble.Store(nil) }

// fail answers requests of these kinds, none for all, with a status.
func (f *fault) fail(status int, kinds ...string) {
	f.set(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if len(kinds) > 0 && !strings.Contains(strings.Join(kinds, " "), pebbletest.Kind(r)) {
			next.ServeHTTP(w, r)
			return
		}
		http.Error(w, "out of order", status)
	})
}

// hold keeps requests of one kind waiting until release, which may be called
// twice; then they meet what was set meanwhile. arrived is closed when the
// first one is there.
func (f *fault) hold(t testing.TB, kind string) (arrived <-chan struct{}, release func()) {
	came, gate := make(chan struct{}), make(chan struct{})
	var first, opened atomic.Bool
	var held *func(http.ResponseWriter, *http.Request, http.Handler)
	release = func() {
		if opened.CompareAndSwap(false, true) {
			f.trouble.CompareAndSwap(held, nil)
			close(gate)
		}
	}
	t.Cleanup(release)
	f.set(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if pebbletest.Kind(r) != kind {
			next.ServeHTTP(w, r)
			return
		}
		if first.CompareAndSwap(false, true) {
			close(came)
		}
		select {
		case <-gate:
			f.serve(w, r, next)
		case <-r.Context().Done():
		}
	})
	held = f.trouble.Load()
	return came, release
}

// await waits for something that must happen within a minute.
func await(t testing.TB, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(time.Minute):
		t.Fatalf("waited a minute until %s", what)
	}
}

// caller speaks the API as any HTTP client with a bearer token does.
type caller struct {
	url, token string
	http       *http.Client
}

// newCaller makes a client that has a bearer token and these recipients.
func newCaller(t testing.TB, p *proxytest.Proxy, name string, recipients []string, grants ...api.Grant) *caller {
	t.Helper()
	answer, err := p.Admin.AddClient(t.Context(), admin.NewClient{Name: name, Grants: grants, Recipients: recipients, Bearer: true})
	if err != nil {
		t.Fatal(err)
	}
	return withToken(t, p, answer.BearerToken)
}

func withToken(t testing.TB, p *proxytest.Proxy, token string) *caller {
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &caller{p.URL, token, &http.Client{Transport: transport}}
}

// reply is a whole answer.
type reply struct {
	status int
	header http.Header
	body   []byte
}

// problem is the answer's problem document; the test fails if it is none.
func (r reply) problem(t testing.TB) *api.Problem {
	t.Helper()
	var p api.Problem
	if r.header.Get("Content-Type") != api.TypeProblem || json.Unmarshal(r.body, &p) != nil || p.Detail == "" {
		t.Fatalf("%d %s is no problem document", r.status, r.body)
	}
	return &p
}

// etag is the answer's, as If-None-Match takes it.
func (r reply) etag() string { return r.header.Get("ETag") }

// do sends a request; header is of pairs.
func (c *caller) do(t testing.TB, method, path string, body any, header ...string) reply {
	t.Helper()
	r, err := c.try(t, method, path, body, header...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (c *caller) try(t testing.TB, method, path string, body any, header ...string) (reply, error) {
	var content io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return reply{}, err
		}
		content = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, c.url+path, content)
	if err != nil {
		return reply{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return reply{resp.StatusCode, resp.Header, data}, err
}

// register asks for a managed certificate.
func (c *caller) register(t testing.TB, names ...string) api.Certificate {
	t.Helper()
	return c.registered(t, api.CertificateRequest{Mode: api.ModeAgent, Names: names})
}

func (c *caller) registered(t testing.TB, req api.CertificateRequest) (m api.Certificate) {
	t.Helper()
	r := c.do(t, http.MethodPost, api.PathCertificates, req)
	if r.status != http.StatusAccepted || json.Unmarshal(r.body, &m) != nil {
		t.Fatalf("register: %d %s", r.status, r.body)
	}
	if r.header.Get("Location") != api.PathCertificates+"/"+m.ID {
		t.Errorf("Location %q of certificate %s", r.header.Get("Location"), m.ID)
	}
	return m
}

// bundle pulls a bundle that is another than etag; it waits for it.
func (c *caller) bundle(t testing.TB, id, etag string) reply {
	t.Helper()
	r := c.do(t, http.MethodGet, api.PathCertificates+"/"+id+"/bundle?wait=60s", nil, "If-None-Match", etag)
	if r.status != http.StatusOK || r.header.Get("Content-Type") != api.TypeBundle || r.etag() == "" {
		t.Fatalf("bundle: %d %v %.300s", r.status, r.header, r.body)
	}
	return r
}

func (c *caller) certificate(t testing.TB, id string) (m api.Certificate) {
	t.Helper()
	r := c.do(t, http.MethodGet, api.PathCertificates+"/"+id, nil)
	if r.status != http.StatusOK || json.Unmarshal(r.body, &m) != nil {
		t.Fatalf("certificate: %d %s", r.status, r.body)
	}
	return m
}

// gateway sends a gateway request and reads all events of the answer.
func (c *caller) gateway(t testing.TB, req api.CertificateRequest) []api.Event {
	t.Helper()
	req.Mode = api.ModeGateway
	r := c.do(t, http.MethodPost, api.PathCertificates, req)
	if r.status != http.StatusOK || r.header.Get("Content-Type") != api.TypeEvents {
		t.Fatalf("gateway: %d %s", r.status, r.body)
	}
	var events []api.Event
	for line := range bytes.Lines(r.body) {
		var e api.Event
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		events = append(events, e)
	}
	return events
}

// newIdentity is an age identity and its recipient.
func newIdentity(t testing.TB) (*age.X25519Identity, string) {
	t.Helper()
	id, err := seal.GenerateIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return id, id.Recipient().String()
}

// open opens a bundle and checks whom it is for.
func open(t testing.TB, ciphertext []byte, want cert.Names, ids ...age.Identity) *cert.Bundle {
	t.Helper()
	plain, err := seal.Open(ciphertext, ids...)
	if err != nil {
		t.Fatal(err)
	}
	b, err := cert.ParseBundle(plain)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := b.Names(); err != nil || !got.Equal(want) {
		t.Errorf("the bundle is for %s, %v; want %s", got, err, want)
	}
	return b
}

// csrPEM is a CSR as the API takes it.
func csrPEM(t testing.TB, key crypto.Signer, list cert.Names) string {
	t.Helper()
	der, err := cert.NewCSR(key, list)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}
