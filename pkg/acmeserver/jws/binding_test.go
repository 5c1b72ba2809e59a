package jws_test

import (
	"bytes"
	"testing"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver/jws"
)

var hmacKey = bytes.Repeat([]byte("k"), 64)

// bound returns a binding of the key ES256.
func bound(alg string, changes fields) fields {
	h := fields{"alg": alg, "kid": "host-1", "url": url}
	return sign(alg, hmacKey, changed(h, changes), string(marshal(jwk(keys()["ES256"].Public()))))
}

func parseKey(t testing.TB, alg string) *jws.Key {
	t.Helper()
	k, err := jws.ParseKey(marshal(jwk(keys()[alg].Public())))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// C19: a correct binding with each algorithm.
func TestBinding(t *testing.T) {
	t.Parallel()
	for _, alg := range []string{"HS256", "HS384", "HS512"} {
		b, err := jws.ParseBinding(marshal(bound(alg, nil)))
		if err != nil {
			t.Fatal(err)
		}
		if b.Kid != "host-1" || b.URL != url {
			t.Errorf("binding is %+v", b)
		}
		if err := b.Verify(hmacKey, parseKey(t, "ES256")); err != nil {
			t.Error(err)
		}
		wantProblem(t, b.Verify(hmacKey, parseKey(t, "ES384")), acme.Unauthorized, "payload: ", "another key")
		wantProblem(t, b.Verify(hmacKey[:63], parseKey(t, "ES256")), acme.Unauthorized)
		wantProblem(t, b.Verify(append([]byte("x"), hmacKey...), parseKey(t, "ES256")), acme.Unauthorized, "signature: ")
		wantProblem(t, b.Verify(nil, parseKey(t, "ES256")), acme.Unauthorized, alg)
	}
}

// C19: clients write the JWK with other members, another order and spaces.
func TestBindingComparesThumbprints(t *testing.T) {
	t.Parallel()
	payload := " {\"use\": \"sig\",\n\"n\": \"" + rfc7638N + `", "kty": "RSA", "e": "AQAB", "kid": "mine" } `
	raw := marshal(sign("HS256", hmacKey, fields{"alg": "HS256", "kid": "host-1", "url": url}, payload))
	b, err := jws.ParseBinding(raw)
	if err != nil {
		t.Fatal(err)
	}
	k, err := jws.ParseKey([]byte(rfc7638Key))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Verify(hmacKey, k); err != nil {
		t.Error(err)
	}
}

// C19: each fault of a binding.
func TestBindingRefuses(t *testing.T) {
	t.Parallel()
	const field = "externalAccountBinding: "
	for name, test := range map[string]struct {
		changes fields
		kind    string
		words   []string
	}{
		"signature by a key": {fields{"alg": "ES256"}, acme.BadSignatureAlgorithm, []string{"HS256"}},
		"no algorithm":       {fields{"alg": "none"}, acme.BadSignatureAlgorithm, []string{"HS256"}},
		"nonce":              {fields{"nonce": "AAAA"}, acme.Malformed, []string{"nonce", "leave it out"}},
		"no url":             {fields{"url": nil}, acme.Malformed, []string{"url: "}},
		"no kid":             {fields{"kid": nil}, acme.Malformed, []string{"kid"}},
		"jwk":                {fields{"kid": nil, "jwk": jwk(keys()["ES256"].Public())}, acme.Malformed, []string{"kid"}},
		"crit":               {fields{"crit": []string{"exp"}}, acme.Malformed, []string{"crit"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := jws.ParseBinding(marshal(bound("HS256", test.changes)))
			wantProblem(t, err, test.kind, append(test.words, field)...)
		})
	}
	for _, raw := range []string{`null`, `{}`, `"x"`, `{"protected":"e30","payload":"","signature":"AAAA","header":{}}`} {
		_, err := jws.ParseBinding([]byte(raw))
		wantProblem(t, err, acme.Malformed, field)
	}

	header := fields{"alg": "HS256", "kid": "host-1", "url": url}
	b, err := jws.ParseBinding(marshal(sign("HS256", hmacKey, header, `{"kty":"EC"}`)))
	if err != nil {
		t.Fatal(err)
	}
	wantProblem(t, b.Verify(hmacKey, parseKey(t, "ES256")), acme.Malformed, field+"payload: jwk: ")
}
