package acmeserver_test

import (
	"bytes"
	"crypto"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/acmeproxy/acmeproxy/internal/rawacme"
	"github.com/acmeproxy/acmeproxy/pkg/acme"
)

type fields = rawacme.Fields

// client is a client with an account. It belongs to one test.
type client struct {
	t     testing.TB
	w     *world
	key   crypto.Signer
	kid   string // empty: it signs with jwk
	nonce string // of the last answer; empty: it asks for one
	clock int64  // of the server when it sent the nonce
}

func (w *world) client(t testing.TB) *client { return &client{t: t, w: w, key: rawacme.NewKey()} }

// register returns a client with a new account.
func (w *world) register(t testing.TB) *client {
	t.Helper()
	c := w.client(t)
	c.kid = c.post(w.dir.NewAccount, fields{"termsOfServiceAgreed": true}).want(http.StatusCreated).location()
	return c
}

// in returns the same client for a subtest.
func (c *client) in(t testing.TB) *client { return &client{t: t, w: c.w, key: c.key, kid: c.kid} }

// changeKey gives the account another key for ES256 (RFC 8555, section 7.3.5).
func (c *client) changeKey(key crypto.Signer) *response {
	c.t.Helper()
	url := c.w.dir.KeyChange
	header := fields{"alg": "ES256", "jwk": rawacme.JWK(key.Public()), "url": url}
	payload := fields{"account": c.kid, "oldKey": rawacme.JWK(c.key.Public())}
	return c.post(url, rawacme.Sign("ES256", key, header, text(payload)))
}

// call is a signed request with any fault.
type call struct {
	url     string
	payload any    // nil: POST-as-GET; a string is sent as it is
	header  fields // changes to the protected header
	jws     fields // changes to the JWS
	kind    string // content type; the correct one if empty
	body    []byte // instead of the JWS
}

func (c *client) post(url string, payload any) *response {
	c.t.Helper()
	return c.send(call{url: url, payload: payload})
}

// get is a POST-as-GET.
func (c *client) get(url string) *response {
	c.t.Helper()
	return c.send(call{url: url})
}

func (c *client) send(q call) *response {
	c.t.Helper()
	body := q.body
	if body == nil {
		body = c.sign(q)
	}
	req, err := http.NewRequestWithContext(c.t.Context(), http.MethodPost, q.url, bytes.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/jose+json")
	if q.kind != "" {
		req.Header.Set("Content-Type", q.kind)
	}
	r := c.w.do(c.t, req)
	c.nonce, c.clock = r.header.Get("Replay-Nonce"), c.w.clock.Load()
	return r
}

// sign returns the JWS of a call and uses up the nonce.
func (c *client) sign(q call) []byte {
	c.t.Helper()
	h := fields{"alg": rawacme.Algorithm(c.key), "nonce": c.takeNonce(), "url": q.url}
	if c.kid == "" {
		h["jwk"] = rawacme.JWK(c.key.Public())
	} else {
		h["kid"] = c.kid
	}
	h = rawacme.Changed(h, q.header)
	signed := rawacme.Sign(rawacme.Algorithm(c.key), c.key, h, text(q.payload))
	return rawacme.JSON(rawacme.Changed(signed, q.jws))
}

func text(payload any) string {
	switch p := payload.(type) {
	case nil:
		return ""
	case string:
		return p
	}
	return string(rawacme.JSON(payload))
}

func (c *client) takeNonce() string {
	c.t.Helper()
	nonce := c.nonce
	if nonce == "" || c.clock != c.w.clock.Load() {
		nonce = c.w.request(c.t, http.MethodHead, c.w.dir.NewNonce).want(http.StatusOK).header.Get("Replay-Nonce")
	}
	c.nonce = ""
	return nonce
}

// response is an answer that passed the checks which hold for all answers.
type response struct {
	t      testing.TB
	url    string
	status int
	header http.Header
	body   []byte
}

func (w *world) request(t testing.TB, method, url string) *response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return w.do(t, req)
}

func (w *world) do(t testing.TB, req *http.Request) *response {
	t.Helper()
	res, err := w.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	r := &response{t: t, url: req.Method + " " + req.URL.String(), status: res.StatusCode, header: res.Header, body: body}
	r.checkAll(w.outage.Load())
	return r
}

// checkAll checks what holds for every answer: C2 (nonce, no-store, RFC 8555, section
// 6.5), the link to the directory (7.1) and C5 (6.7).
func (r *response) checkAll(outage bool) {
	r.t.Helper()
	if r.header.Get("Replay-Nonce") == "" {
		r.t.Errorf("%s: no Replay-Nonce", r.url)
	}
	if got := r.header.Get("Cache-Control"); got != "no-store" {
		r.t.Errorf("%s: Cache-Control is %q", r.url, got)
	}
	if !slices.ContainsFunc(r.links("index"), func(l string) bool {
		return strings.HasPrefix(l, "http") && strings.HasSuffix(l, "/directory")
	}) {
		r.t.Errorf("%s: no Link to the directory in %q", r.url, r.header["Link"])
	}
	kind := r.header.Get("Content-Type")
	if r.status < 400 {
		if bytes.HasPrefix(r.body, []byte("{")) && kind != "application/json" {
			r.t.Errorf("%s: Content-Type is %q", r.url, kind)
		}
		return
	}
	if strings.HasPrefix(r.url, http.MethodHead) {
		return
	}
	var p acme.Problem
	if err := json.Unmarshal(r.body, &p); err != nil || kind != "application/problem+json" {
		r.t.Errorf("%s: no problem document: %s %s", r.url, kind, r.body)
	}
	if !strings.HasPrefix(p.Type, "urn:ietf:params:acme:error:") || p.Status != r.status || p.Detail == "" {
		r.t.Errorf("%s: status is %d, but the problem %s", r.url, r.status, r.body)
	}
	if r.status >= 500 && !outage {
		r.t.Errorf("%s: %d %s", r.url, r.status, r.body)
	}
}

// links returns the targets of the Link headers with a relation.
func (r *response) links(rel string) (targets []string) {
	for _, l := range r.header["Link"] {
		target, params, ok := strings.Cut(strings.TrimPrefix(l, "<"), ">")
		if ok && strings.TrimSpace(strings.TrimPrefix(params, ";")) == `rel="`+rel+`"` {
			targets = append(targets, target)
		}
	}
	return targets
}

func (r *response) want(status int) *response {
	r.t.Helper()
	if r.status != status {
		r.t.Fatalf("%s: %d %s, want status %d", r.url, r.status, r.body, status)
	}
	return r
}

// refused checks a problem: its status, its type, and words of its detail.
func (r *response) refused(status int, kind string, words ...string) acme.Problem {
	r.t.Helper()
	p := r.want(status).problem(words...)
	if p.Type != kind {
		r.t.Errorf("%s: %s, want the type %s", r.url, r.body, kind)
	}
	return p
}

// problem returns a problem document whose texts have the words.
func (r *response) problem(words ...string) (p acme.Problem) {
	r.t.Helper()
	r.decode(&p)
	for _, word := range words {
		if !strings.Contains(p.Text(), word) {
			r.t.Errorf("%s: detail %q does not mention %q", r.url, p.Text(), word)
		}
	}
	return p
}

func (r *response) decode(v any) *response {
	r.t.Helper()
	if err := json.Unmarshal(r.body, v); err != nil {
		r.t.Fatalf("%s: %v in %s", r.url, err, r.body)
	}
	return r
}

func (r *response) location() string {
	r.t.Helper()
	l := r.header.Get("Location")
	if l == "" {
		r.t.Fatalf("%s: no Location", r.url)
	}
	return l
}
