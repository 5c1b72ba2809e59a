package jws_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"hash"
	"math/big"
	"strings"
	"sync"
	"testing"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
)

// The client of these tests writes JWS and JWK without any library, so that an error of
// go-jose cannot hide itself.

type fields = map[string]any

const url = "https://ca.example.com/acme/new-account"

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func marshal(v any) []byte {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return raw
}

var keys = sync.OnceValue(func() map[string]crypto.Signer {
	p256, err1 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	p384, err2 := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	rsa2048, err3 := rsa.GenerateKey(rand.Reader, 2048)
	_, ed, err4 := ed25519.GenerateKey(rand.Reader)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		panic(err)
	}
	return map[string]crypto.Signer{"ES256": p256, "ES384": p384, "RS256": rsa2048, "EdDSA": ed}
})

// jwk returns the members of a public key.
func jwk(public crypto.PublicKey) fields {
	switch k := public.(type) {
	case *rsa.PublicKey:
		return fields{"kty": "RSA", "n": b64(k.N.Bytes()), "e": b64(big.NewInt(int64(k.E)).Bytes())}
	case *ecdsa.PublicKey:
		point, err := k.Bytes()
		if err != nil {
			panic(err)
		}
		half := len(point) / 2
		return fields{"kty": "EC", "crv": k.Params().Name, "x": b64(point[1 : 1+half]), "y": b64(point[1+half:])}
	case ed25519.PublicKey:
		return fields{"kty": "OKP", "crv": "Ed25519", "x": b64(k)}
	}
	panic("unknown key")
}

// signature signs text with a private key or, if it is a []byte, an HMAC key.
func signature(alg string, key any, text string) []byte {
	var h hash.Hash
	switch alg {
	case "EdDSA":
		return ed25519.Sign(key.(ed25519.PrivateKey), []byte(text))
	case "ES384", "HS384":
		h = sha512.New384()
	case "HS512":
		h = sha512.New()
	default:
		h = sha256.New()
	}
	if secret, ok := key.([]byte); ok {
		hashes := map[string]func() hash.Hash{"HS256": sha256.New, "HS384": sha512.New384, "HS512": sha512.New}
		mac := hmac.New(hashes[alg], secret)
		mac.Write([]byte(text))
		return mac.Sum(nil)
	}
	h.Write([]byte(text))
	switch k := key.(type) {
	case *rsa.PrivateKey:
		sig, err := rsa.SignPKCS1v15(nil, k, crypto.SHA256, h.Sum(nil))
		if err != nil {
			panic(err)
		}
		return sig
	case *ecdsa.PrivateKey:
		r, s, err := ecdsa.Sign(rand.Reader, k, h.Sum(nil))
		if err != nil {
			panic(err)
		}
		size := (k.Params().BitSize + 7) / 8
		return append(r.FillBytes(make([]byte, size)), s.FillBytes(make([]byte, size))...)
	}
	panic("unknown key")
}

// sign returns the members of a JWS.
func sign(alg string, key any, header fields, payload string) fields {
	protected, body := b64(marshal(header)), b64([]byte(payload))
	return fields{
		"protected": protected, "payload": body,
		"signature": b64(signature(alg, key, protected+"."+body)),
	}
}

// signed returns a JWS that is correct apart from the changes to its header. A change
// to nil removes the member.
func signed(alg string, changes fields) fields {
	key := keys()[alg]
	h := fields{"alg": alg, "jwk": jwk(key.Public()), "nonce": "bm9uY2U", "url": url}
	return sign(alg, key, changed(h, changes), `{"contact":[]}`)
}

func changed(m, changes fields) fields {
	for name, value := range changes {
		if m[name] = value; value == nil {
			delete(m, name)
		}
	}
	return m
}

// wantProblem checks the type and the words of a problem.
func wantProblem(t *testing.T, err error, problemType string, words ...string) *acme.Problem {
	t.Helper()
	var p *acme.Problem
	if !errors.As(err, &p) || p.Type != problemType || p.Status < 400 {
		t.Fatalf("got %v, want a problem of the type %s", err, problemType)
	}
	for _, w := range words {
		if !strings.Contains(p.Detail, w) {
			t.Errorf("detail %q does not mention %q", p.Detail, w)
		}
	}
	return p
}
