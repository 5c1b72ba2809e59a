package acmeserver_test

import (
	"context"
	"crypto"
	"net/http"
	"net/netip"
	"testing"

	"github.com/acmeproxy/acmeproxy/internal/rawacme"
	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
)

const keyChangeURL = baseURL + "/key-change"

// changeKey asks for another key. The changes are those of the inner JWS's payload.
func (c *raw) changeKey(key crypto.Signer, changes object) *reply {
	c.t.Helper()
	return c.post(keyChangeURL, c.inner(key, changes, nil))
}

// inner returns the inner JWS of keyChange as a payload.
func (c *raw) inner(key crypto.Signer, payload, header object) string {
	payload = rawacme.Changed(object{"account": c.kid, "oldKey": rawacme.JWK(c.key.Public())}, payload)
	header = rawacme.Changed(object{
		"alg": rawacme.Algorithm(key), "jwk": rawacme.JWK(key.Public()), "url": keyChangeURL,
	}, header)
	return string(signed(key, header, payload))
}

// C18, RFC 8555, section 7.3.5: a key change ends the old key. The account remains.
func TestKeyChange(t *testing.T) {
	t.Parallel()
	for algorithm, key := range rawacme.Keys() {
		t.Run(algorithm, func(t *testing.T) {
			t.Parallel()
			c := newRaw(t, newServer(t, nil))
			c.register(object{"contact": []string{"mailto:a@example.com"}}).want(http.StatusCreated)
			r := c.changeKey(key, nil).want(http.StatusOK)
			if r.header.Get("Location") != c.kid || r.object()["status"] != "valid" {
				t.Errorf("%v %s", r.header, r.body)
			}
			if r := c.post(c.kid, nil); r.status < 400 || r.status >= 500 {
				t.Errorf("the old key: %d", r.status)
			}
			old, url := c.key, c.kid
			c.key = key
			if r := c.post(c.kid, nil).want(http.StatusOK); r.object()["contact"] == nil {
				t.Errorf("account: %s", r.body)
			}
			if c.register(nil).want(http.StatusOK); c.kid != url {
				t.Errorf("Location %s instead of %s", c.kid, url)
			}
			c.key = old // is free again
			if c.register(nil).want(http.StatusCreated); c.kid == url {
				t.Error("the old key has its account still")
			}
		})
	}
}

// C18: a key that an account has is a conflict, with that account's URL. Nothing changes.
func TestKeyChangeConflict(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	c, other := newRaw(t, s), newRaw(t, s)
	c.register(nil).want(http.StatusCreated)
	other.register(nil).want(http.StatusCreated)
	for _, owner := range []*raw{other, c} {
		r := c.changeKey(owner.key, nil)
		r.refused(acme.Malformed, http.StatusConflict)
		if got := r.header.Get("Location"); got != owner.kid {
			t.Errorf("Location %q instead of %q", got, owner.kid)
		}
	}
	c.post(c.kid, nil).want(http.StatusOK)
	other.post(other.kid, nil).want(http.StatusOK)
}

// keyGuard refuses key changes until it is told otherwise.
type keyGuard struct {
	acmeserver.AnyAccount
	allowed bool
	asked   []string // thumbprints, old and new
}

func (k *keyGuard) ChangeKey(_ context.Context, a acmeserver.Account, thumbprint string, _ netip.Addr) error {
	k.asked = append(k.asked, a.Thumbprint, thumbprint)
	if !k.allowed {
		return &acme.Problem{Type: acme.Unauthorized, Detail: "not that one"}
	}
	return nil
}

// C18: the host is asked before a key is changed.
func TestKeyChangeAsksTheHost(t *testing.T) {
	t.Parallel()
	host := &keyGuard{}
	c := newRaw(t, newServer(t, func(cfg *acmeserver.Config) { cfg.Accounts = host }))
	c.register(nil).want(http.StatusCreated)
	c.changeKey(c.key, nil).refused(acme.Malformed, http.StatusConflict)
	key := rawacme.NewKey()
	c.changeKey(key, nil).refused(acme.Unauthorized, http.StatusForbidden)
	c.post(c.kid, nil).want(http.StatusOK) // with the old key
	host.allowed = true
	c.changeKey(key, nil).want(http.StatusOK)
	if n := len(host.asked); n != 4 || host.asked[0] != host.asked[2] || host.asked[1] != host.asked[3] || host.asked[0] == host.asked[1] {
		t.Errorf("asked about %q", host.asked)
	}
}

// C18: each check of the RFC refuses a key change.
func TestKeyChangeRefused(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	c, other := newRaw(t, s), newRaw(t, s)
	c.register(nil).want(http.StatusCreated)
	other.register(nil).want(http.StatusCreated)
	key := rawacme.NewKey()
	foreign := rawacme.JWK(rawacme.NewKey().Public())
	header := object{"alg": "ES256", "jwk": rawacme.JWK(key.Public()), "url": keyChangeURL}
	for name, payload := range map[string]any{
		"POST-as-GET":       nil,
		"no JWS":            "{}",
		"no object":         `"x"`,
		"another account":   c.inner(key, object{"account": other.kid}, nil),
		"no account":        c.inner(key, object{"account": nil}, nil),
		"another old key":   c.inner(key, object{"oldKey": foreign}, nil),
		"no old key":        c.inner(key, object{"oldKey": nil}, nil),
		"old key is a text": c.inner(key, object{"oldKey": "x"}, nil),
		"another URL":       c.inner(key, nil, object{"url": baseURL + "/new-order"}),
		"no URL":            c.inner(key, nil, object{"url": nil}),
		"with a nonce":      c.inner(key, nil, object{"nonce": "AAAA"}),
		"signed by account": c.inner(key, nil, object{"jwk": nil, "kid": c.kid}),
		"jwk of another":    c.inner(key, nil, object{"jwk": foreign}),
		"payload is a list": string(signed(key, header, "[]")),
	} {
		t.Run(name, func(t *testing.T) {
			r := c.post(keyChangeURL, payload)
			r.t = t
			if p := r.object(); r.status < 400 || r.status >= 500 || p["type"] == nil {
				t.Errorf("%d %s", r.status, r.body)
			}
		})
	}
	c.post(c.kid, nil).want(http.StatusOK)
	body := signed(c.key, object{
		"alg": "ES256", "nonce": c.nonce, "url": keyChangeURL, "jwk": rawacme.JWK(c.key.Public()),
	}, c.inner(key, nil, nil))
	c.do(http.MethodPost, keyChangeURL, body).refused(acme.Malformed, http.StatusBadRequest)
	c.changeKey(key, nil).want(http.StatusOK)
}
