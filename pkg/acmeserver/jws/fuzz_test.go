package jws_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver/jws"
)

// checkProblem fails unless the error is a problem that a client can print.
func checkProblem(t *testing.T, err error) {
	t.Helper()
	var p *acme.Problem
	if !errors.As(err, &p) || p.Type == "" || p.Status < 400 || p.Detail == "" || len(p.Detail) > 400 {
		t.Fatalf("error is %#v", err)
	}
	if strings.ContainsFunc(p.Detail, func(r rune) bool { return r != '…' && (r < ' ' || r > '~') }) {
		t.Fatalf("detail is %q", p.Detail)
	}
}

// FuzzParse checks that a parsed JWS has a complete header, and that the JSON reader of
// the standard library finds the same in it.
func FuzzParse(f *testing.F) {
	for _, alg := range jws.Algorithms() {
		f.Add(marshal(signed(alg, nil)))
		f.Add(marshal(signed(alg, fields{"jwk": nil, "kid": "https://ca.example.com/acme/account/1"})))
	}
	f.Add(marshal(signed("ES256", fields{"nonce": nil})))
	f.Add(marshal(signed("ES256", fields{"b64": false, "crit": []string{"b64"}})))
	f.Add(marshal(changed(signed("ES256", nil), fields{"header": fields{"alg": "none"}})))
	f.Add([]byte(`{"payload":"","signatures":[{"protected":"e30","signature":"AAAA"}]}`))
	f.Add([]byte(`{"protected":"e30","protected":"e30","payload":"","signature":"AAAA"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		if _, err := jws.ParseInner(body); err != nil {
			checkProblem(t, err)
		}
		m, err := jws.Parse(body, jws.ByKey|jws.ByAccount)
		if err != nil {
			checkProblem(t, err)
			return
		}
		h := m.Header
		if h.Algorithm == "" || h.URL == "" || h.Nonce == "" || (h.Kid == "") == (h.Key == nil) {
			t.Fatalf("header is %+v", h)
		}
		var outer struct{ Protected, Payload, Signature string }
		if err := json.Unmarshal(body, &outer); err != nil || outer.Protected == "" || outer.Signature == "" {
			t.Fatalf("%s: %v", body, err)
		}
		if h.Key == nil {
			return
		}
		payload, err := m.Verify(h.Key)
		if err != nil {
			checkProblem(t, err)
		} else if b64(payload) != outer.Payload {
			t.Fatalf("payload is %q, sent was %q", payload, outer.Payload)
		}
	})
}

// FuzzParseKey checks that an accepted key has one canonical form and no secret.
func FuzzParseKey(f *testing.F) {
	for _, key := range keys() {
		f.Add(marshal(jwk(key.Public())))
	}
	for _, seed := range []string{
		rfc7638Key, rfc8037Key, `{"kty":"oct","k":"AAAA"}`, `{"kty":"EC","crv":"P-521","x":"AAAA","y":"AAAA"}`,
		`{"kty":"EC","crv":"P-256","x":"AAAA","y":"AAAA","d":"AAAA"}`, `{"kty":"RSA","e":"AQ","n":"AAAA"}`,
		`{"kty":"AKP","alg":"ML-DSA-44","pub":"AAAA"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		k, err := jws.ParseKey(raw)
		if err != nil {
			checkProblem(t, err)
			return
		}
		again, err := jws.ParseKey(k.JSON())
		if err != nil || !bytes.Equal(again.JSON(), k.JSON()) || again.Thumbprint() != k.Thumbprint() {
			t.Fatalf("%s became %s, %v", k.JSON(), again.JSON(), err)
		}
		var members map[string]string
		if err := json.Unmarshal(k.JSON(), &members); err != nil || len(members) > 4 || members["d"] != "" {
			t.Fatalf("the canonical form is %s, %v", k.JSON(), err)
		}
	})
}

// FuzzParseBinding checks that no binding passes without the HMAC key.
func FuzzParseBinding(f *testing.F) {
	for _, alg := range []string{"HS256", "HS384", "HS512", "ES256", "none"} {
		if alg[0] == 'H' {
			f.Add(marshal(bound(alg, nil)))
			continue
		}
		protected := b64(marshal(fields{"alg": alg, "kid": "x", "url": url}))
		f.Add(marshal(changed(bound("HS256", nil), fields{"protected": protected})))
	}
	f.Add(marshal(bound("HS256", fields{"nonce": "AAAA"})))
	f.Add(marshal(bound("HS256", fields{"jwk": jwk(keys()["ES256"].Public())})))
	account := parseKey(f, "ES256")
	unknown := bytes.Repeat([]byte("?"), 64)
	f.Fuzz(func(t *testing.T, raw []byte) {
		b, err := jws.ParseBinding(raw)
		if err != nil {
			checkProblem(t, err)
			return
		}
		if b.Kid == "" || b.URL == "" {
			t.Fatalf("binding is %+v", b)
		}
		err = b.Verify(unknown, account)
		if err == nil {
			t.Fatal("a binding passed with another HMAC key")
		}
		checkProblem(t, err)
	})
}
