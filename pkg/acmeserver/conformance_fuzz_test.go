package acmeserver_test

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/acmeproxy/acmeproxy/internal/rawacme"
	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
)

// direct passes requests to a handler without a network.
type direct struct{ http.Handler }

func (d direct) RoundTrip(r *http.Request) (*http.Response, error) {
	rec := httptest.NewRecorder()
	r.RemoteAddr = "192.0.2.1:1234"
	d.ServeHTTP(rec, r)
	res := rec.Result()
	res.Request = r
	return res, nil
}

// some is a policy that demands challenges for all names but one.
type some struct{ acmeserver.Challenged }

func (s some) Order(ctx context.Context, r acmeserver.OrderRequest) (acmeserver.Terms, error) {
	if r.Identifiers[0].Value == "a.example.com" {
		return acmeserver.Terms{}, nil
	}
	return s.Challenged.Order(ctx, r)
}

// target holds the server of a fuzz target.
type target struct {
	w         *world
	c         *client
	endpoints []string // those from byKey on are signed by a key
	byKey     int
	requests  int
}

func newTarget(f testing.TB) *target {
	w := &world{url: baseURL, ca: newTestCA(f)}
	p := &proofs{}
	s, err := acmeserver.New(acmeserver.Config{
		URL: w.url, Storage: acmeserver.NewMemory(), Issuer: w.ca, Terms: "https://example.com/terms",
		Policy:     some{acmeserver.Challenged{Types: []string{acme.DNS01, acme.HTTP01}}},
		Validators: map[string]acmeserver.Validator{acme.DNS01: p, acme.HTTP01: p},
		Profiles:   map[string]string{"short": "six days"}, Dates: true,
		Limits: acmeserver.Limits{Accounts: 1 << 20, Orders: 1 << 20},
	})
	if err != nil {
		f.Fatal(err)
	}
	w.http = &http.Client{Transport: direct{s}}
	w.request(f, http.MethodGet, w.url+"/directory").want(http.StatusOK).decode(&w.dir)
	c := w.register(f)
	pending, done := c.order("b.example.com"), c.order("a.example.com").issue(rawacme.NewKey())
	ready := c.order("a.example.com")
	d := &target{w: w, c: c, endpoints: []string{
		w.dir.NewOrder, ready.Finalize, pending.Finalize, done.Finalize, c.kid, c.kid + "/orders", w.dir.KeyChange,
		pending.Authorizations[0], pending.authz(0).Challenges[0].URL, done.authz(0).Challenges[0].URL,
		pending.url, done.url, done.Certificate, w.dir.RevokeCert,
	}}
	d.byKey = len(d.endpoints)
	d.endpoints = append(d.endpoints, w.dir.NewAccount, w.dir.RevokeCert)
	return d
}

// send sends a call to an endpoint.
func (d *target) send(t *testing.T, endpoint uint8, q call) *response {
	n := int(endpoint) % len(d.endpoints)
	c := d.c.in(t)
	if n >= d.byKey {
		c = d.w.client(t)
	}
	q.url = d.endpoints[n]
	r := c.send(q) // checks what holds for all answers, no status of 500 among it
	if r.header.Get("Content-Type") != "application/pem-certificate-chain" &&
		bytes.ContainsFunc(r.body, func(c rune) bool { return c < ' ' && c != '\n' || c == 0x7f }) {
		t.Errorf("%s: control characters in %q", r.url, r.body)
	}
	return r
}

// usable returns the target, or a new one if the account was deactivated or the storage
// is large.
func (d *target) usable(t *testing.T) *target {
	d.requests++
	if d.requests > 2000 {
		return newTarget(t)
	}
	return d
}

// FuzzPayload sends signed payloads to all endpoints: each answer is a correct one or a
// problem that is not the server's.
func FuzzPayload(f *testing.F) {
	d := newTarget(f)
	csr := rawacme.B64(d.c.order("a.example.com").csr(rawacme.NewKey()))
	for _, seed := range []fields{
		orderOf("a.example.com"), orderOf("*.b.example.com", "192.0.2.1"),
		{"csr": csr},
		{"status": "deactivated"},
		{},
		{"contact": []string{"mailto:a@example.com"}, "termsOfServiceAgreed": true, "onlyReturnExisting": false},
		rawacme.Changed(orderOf("a.example.com"), fields{"profile": "short", "notBefore": "2031-01-01T00:00:00Z"}),
		rawacme.Changed(orderOf("a.example.com"), fields{"replaces": "AAAA.AAAA", "notAfter": "2031-01-01T00:00:00+01:00"}),
		rawacme.Sign("ES256", rawacme.NewKey(), fields{"alg": "ES256", "url": d.w.dir.KeyChange}, "{}"),
		{"certificate": rawacme.B64(d.w.ca.inter[0].Raw), "reason": 1},
		{"externalAccountBinding": fields{"protected": "e30"}},
	} {
		for endpoint := range d.endpoints {
			f.Add(uint8(endpoint), string(rawacme.JSON(seed)))
		}
	}
	f.Add(uint8(0), "")
	f.Fuzz(func(t *testing.T, endpoint uint8, payload string) {
		d = d.usable(t)
		r := d.send(t, endpoint, call{payload: payload})
		if r.status == http.StatusUnauthorized && strings.Contains(string(r.body), "deactivated") {
			d = newTarget(t)
		}
	})
}

// FuzzBody sends unsigned bodies to all endpoints, none of which may have an effect.
func FuzzBody(f *testing.F) {
	d := newTarget(f)
	for endpoint, url := range d.endpoints {
		f.Add(uint8(endpoint), d.c.sign(call{url: url, header: fields{"nonce": "AAAA"}}))
	}
	f.Add(uint8(0), []byte("{}"))
	f.Add(uint8(10), []byte{})
	f.Fuzz(func(t *testing.T, endpoint uint8, body []byte) {
		d = d.usable(t)
		if r := d.send(t, endpoint, call{body: append([]byte{}, body...)}); r.status < 400 {
			t.Errorf("%s: %d %s", r.url, r.status, r.body)
		}
	})
}
