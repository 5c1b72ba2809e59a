package acmeserver_test

import (
	"bytes"
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/acmeproxy/acmeproxy/internal/rawacme"
	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
)

const baseURL = "https://ca.example.com/acme"

type object = rawacme.Fields

// noIssuer is the issuer of tests that order nothing.
type noIssuer struct{}

func (noIssuer) Issue(context.Context, acmeserver.IssueRequest) (acmeserver.Issued, error) {
	return acmeserver.Issued{}, errors.New("this test orders nothing")
}

// newServer returns a server on a new memory, if change does not choose another storage.
func newServer(t testing.TB, change func(*acmeserver.Config)) *acmeserver.Server {
	t.Helper()
	cfg := acmeserver.Config{URL: baseURL, Storage: acmeserver.NewMemory(), Issuer: noIssuer{}}
	if change != nil {
		change(&cfg)
	}
	s, err := acmeserver.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// raw is an ACME client that sends what a test wants, such as what no library sends.
type raw struct {
	t     testing.TB
	h     http.Handler
	key   crypto.Signer
	kid   string // empty: requests have a jwk
	addr  string
	nonce string // of the last answer
}

func newRaw(t testing.TB, h http.Handler) *raw {
	t.Helper()
	return &raw{t: t, h: h, key: rawacme.NewKey(), addr: "192.0.2.1:1234"}
}

// as returns a client with the same account.
func (c *raw) as(h http.Handler) *raw {
	return &raw{t: c.t, h: h, key: c.key, kid: c.kid, addr: c.addr}
}

// reply is an answer.
type reply struct {
	t      testing.TB
	status int
	header http.Header
	body   []byte
}

func (r *reply) decode(v any) {
	r.t.Helper()
	if err := json.Unmarshal(r.body, v); err != nil {
		r.t.Fatalf("%v in %q", err, r.body)
	}
}

// object returns the body.
func (r *reply) object() object {
	r.t.Helper()
	var o object
	r.decode(&o)
	return o
}

// want fails the test unless the answer has a status, and no problem.
func (r *reply) want(status int) *reply {
	r.t.Helper()
	if r.status != status {
		r.t.Fatalf("status is %d instead of %d: %s", r.status, status, r.body)
	}
	return r
}

// refused fails the test unless the answer is a problem of a type with a status.
func (r *reply) refused(kind string, status int) *acme.Problem {
	r.t.Helper()
	var p acme.Problem
	r.want(status).decode(&p)
	if p.Type != kind || p.Status != status || r.header.Get("Content-Type") != "application/problem+json" {
		r.t.Fatalf("%s %q instead of %s", r.header.Get("Content-Type"), r.body, kind)
	}
	if p.Detail == "" {
		r.t.Errorf("no detail: %s", r.body)
	}
	return &p
}

// link returns the target of a link with a relation, or an empty string.
func (r *reply) link(rel string) string {
	for _, l := range r.header.Values("Link") {
		if target, ok := strings.CutSuffix(l, `>;rel="`+rel+`"`); ok {
			return strings.TrimPrefix(target, "<")
		}
	}
	return ""
}

// do sends a request and checks what each answer must have.
func (c *raw) do(method, url string, body []byte) *reply {
	c.t.Helper()
	req := httptest.NewRequestWithContext(c.t.Context(), method, url, bytes.NewReader(body))
	req.RemoteAddr = c.addr
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/jose+json")
	}
	w := httptest.NewRecorder()
	c.h.ServeHTTP(w, req)
	r := &reply{t: c.t, status: w.Code, header: w.Header(), body: w.Body.Bytes()}
	c.nonce = r.header.Get("Replay-Nonce")
	if c.nonce == "" || r.link("index") == "" || r.header.Get("Cache-Control") != "no-store" {
		c.t.Errorf("%s %s: Replay-Nonce, the index link or no-store is missing: %v", method, url, r.header)
	}
	return r
}

func (c *raw) get(path string) *reply {
	c.t.Helper()
	return c.do(http.MethodGet, baseURL+path, nil)
}

// protected returns the header of a signed request, with a new nonce if it has no other.
func (c *raw) protected(url string) object {
	c.t.Helper()
	if c.nonce == "" {
		c.get("/new-nonce")
	}
	h := object{"alg": rawacme.Algorithm(c.key), "nonce": c.nonce, "url": url}
	if c.kid == "" {
		h["jwk"] = rawacme.JWK(c.key.Public())
	} else {
		h["kid"] = c.kid
	}
	return h
}

// post sends a signed request. A payload of nil is a POST-as-GET.
func (c *raw) post(url string, payload any) *reply {
	c.t.Helper()
	return c.do(http.MethodPost, url, signed(c.key, c.protected(url), payload))
}

// register creates an account, with fields of the request in addition.
func (c *raw) register(fields object) *reply {
	c.t.Helper()
	c.kid = ""
	payload := object{"termsOfServiceAgreed": true}
	maps.Copy(payload, fields)
	r := c.post(baseURL+"/new-account", payload)
	if r.status < 300 {
		c.kid = r.header.Get("Location")
	}
	return r
}

func b64(b []byte) string { return rawacme.B64(b) }

// signed returns a JWS. A payload of nil is empty, one of type string is sent as it is.
func signed(key crypto.Signer, protected object, payload any) []byte {
	text, ok := payload.(string)
	if payload != nil && !ok {
		text = string(rawacme.JSON(payload))
	}
	return rawacme.JSON(rawacme.Sign(rawacme.Algorithm(key), key, protected, text))
}

// bound returns an external account binding of a key.
func bound(key crypto.Signer, kid string, hmacKey []byte, url string) object {
	header := object{"alg": "HS256", "kid": kid, "url": url}
	return rawacme.Sign("HS256", hmacKey, header, string(rawacme.JSON(rawacme.JWK(key.Public()))))
}

// rules is an Accounts whose methods a test chooses.
type rules struct {
	acmeserver.AnyAccount
	requires func(entrance string) (bool, error)
	keys     map[string][]byte
	admit    func(acmeserver.NewAccount) (string, error)
	allow    func(acmeserver.Account, netip.Addr) error
}

func (r *rules) RequiresBinding(ctx context.Context, entrance string) (bool, error) {
	if r.requires == nil {
		return r.AnyAccount.RequiresBinding(ctx, entrance)
	}
	return r.requires(entrance)
}

func (r *rules) BindingKey(_ context.Context, kid string) ([]byte, error) {
	key, ok := r.keys[kid]
	if !ok {
		return nil, acmeserver.ErrNotFound
	}
	return key, nil
}

func (r *rules) Admit(_ context.Context, a acmeserver.NewAccount) (string, error) {
	if r.admit == nil {
		return "", nil
	}
	return r.admit(a)
}

func (r *rules) Allow(_ context.Context, a acmeserver.Account, addr netip.Addr) error {
	if r.allow == nil {
		return nil
	}
	return r.allow(a, addr)
}
