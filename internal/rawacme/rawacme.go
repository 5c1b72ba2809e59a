// Package rawacme writes the signed requests of ACME clients for tests, correct or with
// any fault. It uses no JOSE library, so that an error of one cannot hide itself.
package rawacme

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
	"sync"
)

// Fields are the members of a JSON object.
type Fields = map[string]any

// B64 returns base64url without padding.
func B64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// JSON returns v as JSON.
func JSON(v any) []byte {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return raw
}

// Keys returns a key for each accepted algorithm, the same ones for all callers.
var Keys = sync.OnceValue(func() map[string]crypto.Signer {
	p256, err1 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	p384, err2 := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	rsa2048, err3 := rsa.GenerateKey(rand.Reader, 2048)
	_, ed, err4 := ed25519.GenerateKey(rand.Reader)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		panic(err)
	}
	return map[string]crypto.Signer{"ES256": p256, "ES384": p384, "RS256": rsa2048, "EdDSA": ed}
})

// JWK returns the members of a public key (RFC 7517).
func JWK(public crypto.PublicKey) Fields {
	switch k := public.(type) {
	case *rsa.PublicKey:
		return Fields{"kty": "RSA", "n": B64(k.N.Bytes()), "e": B64(big.NewInt(int64(k.E)).Bytes())}
	case *ecdsa.PublicKey:
		point, err := k.Bytes()
		if err != nil {
			panic(err)
		}
		half := len(point) / 2
		return Fields{"kty": "EC", "crv": k.Params().Name, "x": B64(point[1 : 1+half]), "y": B64(point[1+half:])}
	case ed25519.PublicKey:
		return Fields{"kty": "OKP", "crv": "Ed25519", "x": B64(k)}
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

// Sign returns the members of a JWS in the flattened JSON serialization. The key is a
// private key or, for a MAC, a []byte.
func Sign(alg string, key any, header Fields, payload string) Fields {
	protected, body := B64(JSON(header)), B64([]byte(payload))
	return Fields{
		"protected": protected, "payload": body,
		"signature": B64(signature(alg, key, protected+"."+body)),
	}
}

// Changed sets members of m and returns it. A change to nil removes the member.
func Changed(m, changes Fields) Fields {
	for name, value := range changes {
		if m[name] = value; value == nil {
			delete(m, name)
		}
	}
	return m
}

// Thumbprint returns the thumbprint of a public key (RFC 7638).
func Thumbprint(public crypto.PublicKey) string {
	sum := sha256.Sum256(JSON(JWK(public))) // encoding/json sorts the members
	return B64(sum[:])
}

// Algorithm returns the JWS algorithm of a private key.
func Algorithm(key crypto.Signer) string {
	switch k := key.Public().(type) {
	case *rsa.PublicKey:
		return "RS256"
	case *ecdsa.PublicKey:
		return map[string]string{"P-256": "ES256", "P-384": "ES384"}[k.Params().Name]
	case ed25519.PublicKey:
		return "EdDSA"
	}
	panic("unknown key")
}

// NewKey returns a new key for ES256.
func NewKey() crypto.Signer {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
}
