package jws_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"maps"
	"testing"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver/jws"
)

// The key of RFC 7638, section 3.1, and that of RFC 8037, appendix A.
const (
	rfc7638N = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc" +
		"_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2" +
		"QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZ" +
		"u0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
	rfc7638Key   = `{"kty":"RSA","n":"` + rfc7638N + `","e":"AQAB","alg":"RS256","kid":"2011-04-29"}`
	rfc7638Print = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
	rfc8037Key   = `{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`
	rfc8037Print = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
)

func TestKey(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ jwk, canonical, print string }{
		{rfc7638Key, `{"e":"AQAB","kty":"RSA","n":"` + rfc7638N + `"}`, rfc7638Print},
		{rfc8037Key, `{"crv":"Ed25519","kty":"OKP","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`, rfc8037Print},
		// Leading zeros do not make another key.
		{
			`{"e":"AAEAAQ","kty":"RSA","n":"` + rfc7638N + `"}`,
			`{"e":"AQAB","kty":"RSA","n":"` + rfc7638N + `"}`, rfc7638Print,
		},
	} {
		k, err := jws.ParseKey([]byte(test.jwk))
		if err != nil {
			t.Fatal(err)
		}
		if string(k.JSON()) != test.canonical || k.Thumbprint() != test.print {
			t.Errorf("got %s, %s", k.JSON(), k.Thumbprint())
		}
		again, err := jws.ParseKey(k.JSON())
		if err != nil || !bytes.Equal(again.JSON(), k.JSON()) {
			t.Errorf("the canonical form parses as %s, %v", again.JSON(), err)
		}
		if got := jws.KeyAuthorization("token", k); got != "token."+test.print {
			t.Errorf("key authorization is %s", got)
		}
	}
}

// C4: weak, private and foreign keys are refused, before their signature is looked at.
func TestParseKeyRefuses(t *testing.T) {
	t.Parallel()
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	with := func(alg string, changes fields) []byte {
		return marshal(changed(maps.Clone(jwk(keys()[alg].Public())), changes))
	}
	number := func(bits int, last byte) string {
		n := bytes.Repeat([]byte{0xff}, bits/8)
		n[len(n)-1] = last
		return b64(n)
	}
	twice := append([]byte(`{"kty":"EC",`), with("ES256", nil)[1:]...)
	short := b64(append([]byte{0x7f}, bytes.Repeat([]byte{0xff}, 255)...))
	for name, test := range map[string]struct {
		jwk   []byte
		kind  string
		words []string
	}{
		"no object":        {[]byte(`"x"`), acme.Malformed, []string{"jwk: "}},
		"member twice":     {twice, acme.Malformed, []string{`"kty"`, "twice"}},
		"no kty":           {with("ES256", fields{"kty": nil}), acme.Malformed, []string{"kty: ", "missing"}},
		"symmetric":        {marshal(fields{"kty": "oct", "k": "AAAA"}), acme.Malformed, []string{"private"}},
		"unknown kty":      {with("ES256", fields{"kty": "AKP"}), acme.BadPublicKey, []string{"kty: ", "P-256"}},
		"private RSA":      {with("RS256", fields{"d": "AQAB"}), acme.Malformed, []string{"private member d"}},
		"private primes":   {with("RS256", fields{"oth": []any{}}), acme.Malformed, []string{"private member oth"}},
		"private EC":       {with("ES256", fields{"d": nil, "p": ""}), acme.Malformed, []string{"private member p"}},
		"private Ed25519":  {with("EdDSA", fields{"d": "AAAA"}), acme.Malformed, []string{"private member d"}},
		"P-521":            {marshal(jwk(p521.Public())), acme.BadPublicKey, []string{"crv: ", "P-521"}},
		"Ed448":            {with("EdDSA", fields{"crv": "Ed448"}), acme.BadPublicKey, []string{"crv: "}},
		"X25519":           {with("EdDSA", fields{"crv": "X25519"}), acme.BadPublicKey, []string{"crv: "}},
		"no crv":           {with("ES256", fields{"crv": nil}), acme.Malformed, []string{"crv: ", "missing"}},
		"another curve":    {with("ES384", fields{"crv": "P-256"}), acme.BadPublicKey, []string{"EC key"}},
		"no point":         {with("ES256", fields{"x": number(256, 1)}), acme.BadPublicKey, []string{"EC key"}},
		"no y":             {with("ES256", fields{"y": nil}), acme.Malformed, []string{"y: ", "missing"}},
		"short x":          {with("ES256", fields{"x": "AAAA"}), acme.BadPublicKey, []string{"EC key"}},
		"padded x":         {with("ES256", fields{"x": "AAA="}), acme.Malformed, []string{"x: ", "padded"}},
		"short Ed25519":    {with("EdDSA", fields{"x": "AAAA"}), acme.BadPublicKey, []string{"OKP key"}},
		"RSA 1024":         {with("RS256", fields{"n": number(1024, 1)}), acme.BadPublicKey, []string{"1024 bits", "2048"}},
		"RSA 2047":         {with("RS256", fields{"n": short}), acme.BadPublicKey, []string{"2047"}},
		"RSA 8200":         {with("RS256", fields{"n": number(8200, 1)}), acme.BadPublicKey, []string{"8192"}},
		"RSA 16400":        {with("RS256", fields{"n": number(16400, 1)}), acme.BadPublicKey, []string{"8192"}},
		"RSA even":         {with("RS256", fields{"n": number(2048, 2)}), acme.BadPublicKey, []string{"even"}},
		"exponent one":     {with("RS256", fields{"e": "AQ"}), acme.BadPublicKey, []string{"RSA"}},
		"exponent even":    {with("RS256", fields{"e": "BA"}), acme.BadPublicKey, []string{"e: "}},
		"exponent large":   {with("RS256", fields{"e": "AQAAAAE"}), acme.BadPublicKey, []string{"e: "}},
		"exponent missing": {with("RS256", fields{"e": nil}), acme.Malformed, []string{"e: ", "missing"}},
		"n a number":       {with("RS256", fields{"n": 7}), acme.Malformed, []string{"n: ", "string"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := jws.ParseKey(test.jwk)
			wantProblem(t, err, test.kind, append(test.words, "jwk: ")...)
		})
	}
}
