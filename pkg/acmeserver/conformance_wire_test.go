package acmeserver_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/rawacme"
	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
)

// C2: RFC 8555, section 7.1.1.
func TestConformDirectory(t *testing.T) {
	conform(t, func(c *acmeserver.Config) {
		c.Terms, c.Website = "https://example.com/terms", "https://example.com"
		c.CAAIdentities = []string{"example.com"}
		c.Profiles = map[string]string{"short": "six days"}
	}, func(t *testing.T, w *world) {
		for name, url := range map[string]string{
			"newNonce": w.dir.NewNonce, "newAccount": w.dir.NewAccount, "newOrder": w.dir.NewOrder,
			"revokeCert": w.dir.RevokeCert, "keyChange": w.dir.KeyChange, "renewalInfo": w.dir.RenewalInfo,
		} {
			if !strings.HasPrefix(url, w.url+"/") {
				t.Errorf("%s is %q", name, url)
			}
		}
		m := w.dir.Meta
		if m.TermsOfService != w.cfg.Terms || m.Website != w.cfg.Website || m.ExternalAccountRequired == nil ||
			*m.ExternalAccountRequired || !slices.Equal(m.CAAIdentities, w.cfg.CAAIdentities) ||
			!maps.Equal(m.Profiles, w.cfg.Profiles) {
			t.Errorf("meta is %+v", m)
		}
		// Some clients test the directory with HEAD.
		if r := w.request(t, http.MethodHead, w.url+"/directory").want(http.StatusOK); len(r.body) > 0 {
			t.Errorf("HEAD has the body %q", r.body)
		}
		w.request(t, http.MethodPut, w.url+"/directory").refused(http.StatusMethodNotAllowed, acme.Malformed)
		var signed directory
		w.register(t).get(w.url + "/directory").want(http.StatusOK).decode(&signed) // section 6.3
		if signed.NewOrder != w.dir.NewOrder {
			t.Errorf("directory is %+v", signed)
		}
		w.request(t, http.MethodGet, w.url+"/at/unknown/directory").refused(http.StatusNotFound, acme.Malformed)
		w.request(t, http.MethodGet, w.url+"/nowhere").refused(http.StatusNotFound, acme.Malformed, w.url+"/directory")
		w.request(t, http.MethodGet, w.url+"/x/../directory").refused(http.StatusNotFound, acme.Malformed)
		w.request(t, http.MethodGet, w.url+"//directory").refused(http.StatusNotFound, acme.Malformed)
	})
}

// C2: Proxmox crashes without meta.termsOfService.
func TestConformDirectoryWithoutTerms(t *testing.T) {
	conform(t, nil, func(t *testing.T, w *world) {
		if !strings.HasPrefix(w.dir.Meta.TermsOfService, "https://") {
			t.Errorf("termsOfService is %q", w.dir.Meta.TermsOfService)
		}
		w.request(t, http.MethodGet, w.dir.Meta.TermsOfService).want(http.StatusOK)
	})
}

// C2, C3: RFC 8555, sections 6.5 and 7.2.
func TestConformNonces(t *testing.T) {
	conform(t, func(c *acmeserver.Config) { c.Limits.NonceLife = time.Hour }, func(t *testing.T, w *world) {
		t.Run("newNonce", func(t *testing.T) {
			seen := map[string]bool{}
			for range 4 {
				for method, status := range map[string]int{http.MethodHead: 200, http.MethodGet: 204} { // Proxmox uses GET
					r := w.request(t, method, w.dir.NewNonce).want(status)
					nonce := r.header.Get("Replay-Nonce")
					if len(r.body) > 0 || seen[nonce] || strings.Trim(nonce, base64url) != "" {
						t.Errorf("%s: nonce %q, body %q", method, nonce, r.body)
					}
					seen[nonce] = true
				}
			}
			w.request(t, http.MethodDelete, w.dir.NewNonce).refused(http.StatusMethodNotAllowed, acme.Malformed)
			w.register(t).get(w.dir.NewNonce).want(http.StatusNoContent) // section 6.3
		})
		t.Run("once", func(t *testing.T) {
			c := w.client(t)
			used := c.takeNonce()
			again := call{url: w.dir.NewAccount, payload: fields{}, header: fields{"nonce": used}}
			c.send(again).want(http.StatusCreated)
			for range 2 { // on both instances
				c.send(again).refused(http.StatusBadRequest, acme.BadNonce, "nonce")
			}
			c.post(w.dir.NewAccount, fields{}).want(http.StatusOK) // with the nonce of the refusal
		})
		t.Run("unknown", func(t *testing.T) {
			c := w.register(t)
			for _, nonce := range []string{"AAAA", strings.Repeat("A", 48), swapFirst(c.takeNonce())} {
				c.send(call{url: c.kid, header: fields{"nonce": nonce}}).refused(http.StatusBadRequest, acme.BadNonce)
			}
			for _, nonce := range []string{"not base64url!", "AAA=", "A"} { // section 6.5.2
				c.send(call{url: c.kid, header: fields{"nonce": nonce}}).refused(http.StatusBadRequest, acme.Malformed, "nonce")
			}
		})
		t.Run("not used up by a wrong signature", func(t *testing.T) {
			c := w.register(t)
			nonce := c.takeNonce()
			q := call{url: c.kid, header: fields{"nonce": nonce}, jws: fields{"signature": rawacme.B64(make([]byte, 64))}}
			c.send(q).refused(http.StatusBadRequest, acme.Malformed, "signature")
			c.send(call{url: c.kid, header: fields{"nonce": nonce}}).want(http.StatusOK)
		})
		t.Run("after a restart", func(t *testing.T) { // dehydrated never retries a badNonce
			c := w.client(t)
			used, unused := c.takeNonce(), c.takeNonce()
			q := call{url: w.dir.NewAccount, payload: fields{}, header: fields{"nonce": used}}
			c.send(q).want(http.StatusCreated)
			w.end()
			w.start()
			c.send(q).refused(http.StatusBadRequest, acme.BadNonce)
			c.send(call{url: w.dir.NewAccount, payload: fields{}, header: fields{"nonce": unused}}).want(http.StatusOK)
		})
		t.Run("expired", func(t *testing.T) {
			c := w.client(t)
			old := c.takeNonce()
			w.clock.Add(int64(61 * time.Minute))
			c.send(call{url: w.dir.NewAccount, payload: fields{}, header: fields{"nonce": old}}).
				refused(http.StatusBadRequest, acme.BadNonce)
			c.post(w.dir.NewAccount, fields{}).want(http.StatusCreated)
		})
	})
}

const base64url = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

// swapFirst returns a nonce with another first character.
func swapFirst(nonce string) string {
	if nonce[0] == 'A' {
		return "B" + nonce[1:]
	}
	return "A" + nonce[1:]
}

// C4: RFC 8555, sections 6.2 and 6.4. The package jws tests all faults of the form.
func TestConformJWS(t *testing.T) {
	conform(t, nil, func(t *testing.T, w *world) {
		c := w.register(t)
		stranger := w.register(t)
		jwk, absent := rawacme.JWK(c.key.Public()), w.url+"/account/0"
		for name, test := range map[string]struct {
			call
			status int
			kind   string
			word   string
		}{
			"jwk and kid":         {call{header: fields{"jwk": jwk}}, 400, acme.Malformed, "jwk and kid"},
			"neither":             {call{header: fields{"kid": nil}}, 400, acme.Malformed, "neither"},
			"jwk for an account":  {call{header: fields{"kid": nil, "jwk": jwk}}, 400, acme.Malformed, "kid"},
			"no nonce":            {call{header: fields{"nonce": nil}}, 400, acme.Malformed, "nonce"},
			"no url":              {call{header: fields{"url": nil}}, 400, acme.Malformed, "url"},
			"another url":         {call{header: fields{"url": w.dir.NewOrder}}, 401, acme.Unauthorized, c.kid},
			"another host":        {call{header: fields{"url": "https://example.com/acme"}}, 401, acme.Unauthorized, c.kid},
			"none":                {call{header: fields{"alg": "none"}}, 400, acme.BadSignatureAlgorithm, "ES256"},
			"a MAC":               {call{header: fields{"alg": "HS256"}}, 400, acme.BadSignatureAlgorithm, "ES256"},
			"another algorithm":   {call{header: fields{"alg": "ES384"}}, 400, acme.BadSignatureAlgorithm, "ES256"},
			"crit":                {call{header: fields{"crit": []string{"b64"}, "b64": false}}, 400, acme.Malformed, "b64"},
			"unprotected header":  {call{jws: fields{"header": fields{"kid": c.kid}}}, 400, acme.Malformed, "header"},
			"several signatures":  {call{jws: fields{"signatures": []any{}}}, 400, acme.Malformed, "signatures"},
			"changed payload":     {call{jws: fields{"payload": "e30"}}, 400, acme.Malformed, "signature"},
			"another account":     {call{header: fields{"kid": stranger.kid}}, 400, acme.Malformed, "signature"},
			"unknown account":     {call{header: fields{"kid": absent}}, 400, acme.AccountDoesNotExist, "register"},
			"another server":      {call{header: fields{"kid": "https://example.com/1"}}, 400, acme.AccountDoesNotExist, "kid"},
			"kid with more":       {call{header: fields{"kid": c.kid + "/orders"}}, 400, acme.AccountDoesNotExist, "kid"},
			"no JSON":             {call{body: []byte("x")}, 400, acme.Malformed, "JSON"},
			"empty":               {call{body: []byte{}}, 400, acme.Malformed, "JSON"},
			"too large":           {call{jws: fields{"payload": strings.Repeat("A", 129<<10)}}, 413, acme.Malformed, "large"},
			"content type":        {call{kind: "application/json"}, 415, acme.Malformed, "application/jose+json"},
			"content type of JWS": {call{kind: "application/jose"}, 415, acme.Malformed, "application/jose+json"},
		} {
			t.Run(name, func(t *testing.T) {
				own := c.in(t)
				test.url = c.kid
				p := own.send(test.call).refused(test.status, test.kind, test.word)
				if (p.Algorithms != nil) != (test.kind == acme.BadSignatureAlgorithm) {
					t.Errorf("algorithms is %q", p.Algorithms)
				}
			})
		}
		t.Run("content type with a parameter", func(t *testing.T) {
			own := c.in(t)
			own.send(call{url: c.kid, kind: "application/jose+json; charset=utf-8"}).want(http.StatusOK)
		})
	})
}

// C4: the algorithms and the keys of accounts.
func TestConformKeys(t *testing.T) {
	conform(t, nil, func(t *testing.T, w *world) {
		for alg, key := range rawacme.Keys() {
			t.Run(alg, func(t *testing.T) {
				c := w.client(t)
				c.key = key
				c.kid = c.post(w.dir.NewAccount, fields{}).want(http.StatusCreated).location()
				c.order("a.example.com").finalize(rawacme.NewKey()).want(http.StatusOK)
			})
		}
		for name, jwk := range map[string]fields{
			"RSA 1024": {"kty": "RSA", "e": "AQAB", "n": rawacme.B64(append([]byte(strings.Repeat("\xff", 127)), 1))},
			"P-521":    {"kty": "EC", "crv": "P-521", "x": "AAAA", "y": "AAAA"},
			"X25519":   {"kty": "OKP", "crv": "X25519", "x": "AAAA"},
		} {
			t.Run(name, func(t *testing.T) {
				c := w.client(t)
				c.send(call{url: w.dir.NewAccount, payload: fields{}, header: fields{"jwk": jwk}}).
					refused(http.StatusBadRequest, acme.BadPublicKey, "jwk", "P-256")
			})
		}
		t.Run("private", func(t *testing.T) {
			c := w.client(t)
			jwk := rawacme.Changed(rawacme.JWK(c.key.Public()), fields{"d": "AAAA"})
			c.send(call{url: w.dir.NewAccount, payload: fields{}, header: fields{"jwk": jwk}}).
				refused(http.StatusBadRequest, acme.Malformed, "private")
		})
	})
}

// C4: RFC 8555, section 6.3. All but the directory, newNonce and renewalInfo refuse GET.
func TestConformGET(t *testing.T) {
	conform(t, nil, func(t *testing.T, w *world) {
		c := w.register(t)
		o := c.order("a.example.com").issue(rawacme.NewKey())
		authz := o.authz(0)
		for _, url := range []string{
			w.dir.NewAccount, w.dir.NewOrder, w.dir.RevokeCert, w.dir.KeyChange, c.kid, c.kid + "/orders",
			o.url, o.Finalize, o.Authorizations[0], authz.Challenges[0].URL, o.Certificate,
		} {
			for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPut, http.MethodDelete} {
				r := w.request(t, method, url).want(http.StatusMethodNotAllowed)
				if method != http.MethodHead {
					r.refused(http.StatusMethodNotAllowed, acme.Malformed)
				}
				if r.header.Get("Allow") != http.MethodPost {
					t.Errorf("%s %s: Allow is %q", method, url, r.header.Get("Allow"))
				}
			}
		}
		// A resource that exists only to be created has no POST-as-GET.
		for _, url := range []string{w.dir.NewOrder, w.dir.RevokeCert, w.dir.KeyChange, o.Finalize} {
			c.get(url).refused(http.StatusBadRequest, acme.Malformed)
		}
		w.client(t).get(w.dir.NewAccount).refused(http.StatusBadRequest, acme.Malformed)
		// One that is only read has no payload.
		for _, url := range []string{o.url, o.Certificate, c.kid + "/orders"} {
			c.post(url, fields{"status": "deactivated"}).refused(http.StatusBadRequest, acme.Malformed, "payload")
		}
		for _, payload := range []string{`x`, `[]`, `"x"`, `7`, `{"contact":7}`, `{"contact":[7]}`} {
			c.post(c.kid, payload).refused(http.StatusBadRequest, acme.Malformed)
		}
	})
}

// C5: a problem with several causes has subproblems (RFC 8555, section 6.7.1).
func TestConformSubproblems(t *testing.T) {
	conform(t, nil, func(t *testing.T, w *world) {
		c := w.register(t)
		r := c.post(w.dir.NewOrder, orderOf("good.example.com", "bad_.example.com", "also bad"))
		p := r.refused(http.StatusBadRequest, acme.RejectedIdentifier, "bad_.example.com", "also bad")
		if len(p.Subproblems) != 2 {
			t.Errorf("subproblems are %+v", p.Subproblems)
		}
		var raw struct {
			Subproblems []map[string]json.RawMessage `json:"subproblems"`
		}
		r.decode(&raw)
		for _, s := range raw.Subproblems {
			if s["type"] == nil || s["identifier"] == nil {
				t.Errorf("subproblem is %s", s)
			}
		}
	})
}
