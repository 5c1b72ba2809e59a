package proxytest

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/watch"
	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/auth"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/frontend/admin"
	"github.com/acmeproxy/acmeproxy/pkg/proxy"
)

// Caller calls the API with a bearer token, like any HTTP client.
type Caller struct {
	URL   string // the proxy's
	Token string // if empty, none is sent
	HTTP  *http.Client
}

// NewCaller creates a client with a bearer token and these recipients.
func (p *Proxy) NewCaller(t testing.TB, name string, recipients []string, grants ...clients.Grant) *Caller {
	t.Helper()
	answer, err := p.Admin.AddClient(t.Context(), admin.NewClient{Name: name, Grants: grants, Recipients: recipients, Bearer: true})
	if err != nil {
		t.Fatal(err)
	}
	return p.WithToken(t, answer.BearerToken)
}

// WithToken returns a caller with a bearer token and connections of its own.
func (p *Proxy) WithToken(t testing.TB, token string) *Caller {
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &Caller{p.URL, token, &http.Client{Transport: transport}}
}

// Reply holds an answer with its body.
type Reply struct {
	Status int
	Header http.Header
	Body   []byte
}

// Problem returns the answer's problem document. The test fails if the answer has no
// such document.
func (r Reply) Problem(t testing.TB) *api.Problem {
	t.Helper()
	var p api.Problem
	if r.Header.Get("Content-Type") != api.TypeProblem || json.Unmarshal(r.Body, &p) != nil || p.Detail == "" {
		t.Fatalf("%d %s is not a problem document", r.Status, r.Body)
	}
	return &p
}

// ETag returns the answer's ETag, for If-None-Match.
func (r Reply) ETag() string { return r.Header.Get("ETag") }

// Do sends a request and reads the answer. A body is sent as JSON; header holds
// pairs of names and values.
func (c *Caller) Do(t testing.TB, method, path string, body any, header ...string) Reply {
	t.Helper()
	r, err := c.Try(t, method, path, body, header...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Try is Do for goroutines other than the test's.
func (c *Caller) Try(t testing.TB, method, path string, body any, header ...string) (Reply, error) {
	var content io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return Reply{}, err
		}
		content = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, c.URL+path, content)
	if err != nil {
		return Reply{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	if c.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.Token)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := c.HTTP.Do(req)
	if err != nil {
		return Reply{}, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return Reply{resp.StatusCode, resp.Header, data}, err
}

// Register registers a managed certificate for these names.
func (c *Caller) Register(t testing.TB, names ...string) api.Certificate {
	t.Helper()
	return c.Registered(t, api.CertificateRequest{Mode: clients.ModeAgent, Names: names})
}

// Registered sends a request of agent mode and returns what is registered.
func (c *Caller) Registered(t testing.TB, req api.CertificateRequest) (m api.Certificate) {
	t.Helper()
	r := c.Do(t, http.MethodPost, api.PathCertificates, req)
	if r.Status != http.StatusAccepted || json.Unmarshal(r.Body, &m) != nil {
		t.Fatalf("register: %d %s", r.Status, r.Body)
	}
	if r.Header.Get("Location") != api.PathCertificates+"/"+m.ID {
		t.Errorf("Location %q of certificate %s", r.Header.Get("Location"), m.ID)
	}
	return m
}

// longPoll is the duration of a long poll of Bundle.
const longPoll = time.Minute

// Bundle waits for a bundle with another ETag and returns it.
func (c *Caller) Bundle(t testing.TB, id, etag string) Reply {
	t.Helper()
	deadline := watch.Deadline(t)
	for {
		begun := time.Now()
		r := c.Do(t, http.MethodGet, api.PathCertificates+"/"+id+"/bundle?wait="+longPoll.String(), nil, "If-None-Match", etag)
		if r.Status == http.StatusOK && r.Header.Get("Content-Type") == api.TypeBundle && r.ETag() != "" {
			return r
		}
		if time.Since(begun) < longPoll || time.Now().After(deadline) {
			t.Fatalf("bundle: %d %v %.300s", r.Status, r.Header, r.Body)
		}
	}
}

// Certificate returns the status of a managed certificate.
func (c *Caller) Certificate(t testing.TB, id string) (m api.Certificate) {
	t.Helper()
	r := c.Do(t, http.MethodGet, api.PathCertificates+"/"+id, nil)
	if r.Status != http.StatusOK || json.Unmarshal(r.Body, &m) != nil {
		t.Fatalf("certificate: %d %s", r.Status, r.Body)
	}
	return m
}

// Gateway sends a request of gateway mode and returns all events of the answer.
func (c *Caller) Gateway(t testing.TB, req api.CertificateRequest) []api.Event {
	t.Helper()
	req.Mode = clients.ModeGateway
	r := c.Do(t, http.MethodPost, api.PathCertificates, req)
	if r.Status != http.StatusOK || r.Header.Get("Content-Type") != api.TypeEvents {
		t.Fatalf("gateway: %d %s", r.Status, r.Body)
	}
	var events []api.Event
	for line := range bytes.Lines(r.Body) {
		var e api.Event
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		events = append(events, e)
	}
	return events
}

// Revoke revokes a certificate and returns what was revoked.
func (c *Caller) Revoke(t testing.TB, req api.RevokeRequest) (done api.Revocation) {
	t.Helper()
	r := c.Do(t, http.MethodPost, api.PathRevoke, req)
	if r.Status != http.StatusOK || json.Unmarshal(r.Body, &done) != nil {
		t.Fatalf("revoke: %d %s", r.Status, r.Body)
	}
	return done
}

// WithKey returns a caller with the TLS key of a remote's state directory, and
// that key's pin.
func (p *Proxy) WithKey(t testing.TB, dir string) (*Caller, [32]byte) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := cert.ParseKey(data)
	if err != nil {
		t.Fatal(err)
	}
	c, err := cert.SelfSigned(key, "test")
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{*c}}, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &Caller{p.URL, "", &http.Client{Transport: transport}}, auth.SPKIPin(c.Leaf)
}

// StartAgent starts a proxy with one client, which is granted all names below
// example.com in agent mode.
func StartAgent(t testing.TB, change func(*proxy.Config)) (*Proxy, *Caller) {
	t.Helper()
	p := Start(t, Options{Change: change})
	_, recipient := NewIdentity(t)
	return p, p.NewCaller(t, "web1", []string{recipient}, Grant(clients.ModeAgent, "**.example.com"))
}
