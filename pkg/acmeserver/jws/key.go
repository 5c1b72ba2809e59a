package jws

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"slices"

	"github.com/go-jose/go-jose/v4"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
)

// Key is a client's public key. It is safe for concurrent use.
type Key struct {
	public     crypto.PublicKey
	json       []byte
	thumbprint string
	algorithm  string // the one that suits the key
}

// The sizes of an RSA key in bits. A larger one makes each request expensive.
const (
	minRSA = 2048
	maxRSA = 8192
)

// members holds the members of a public key that RFC 7638, section 3.2 requires, in
// lexicographic order. Only these are read.
type members struct {
	Crv string `json:"crv,omitempty"`
	E   string `json:"e,omitempty"`
	Kty string `json:"kty"`
	N   string `json:"n,omitempty"`
	X   string `json:"x,omitempty"`
	Y   string `json:"y,omitempty"`
}

// ParseKey parses a public JWK (RFC 7517): RSA with 2048 to 8192 bits, EC on P-256 or
// P-384, or OKP with Ed25519. The error is a problem of the type malformed or
// badPublicKey.
func ParseKey(jwk []byte) (*Key, error) {
	o, err := parseObject(jwk)
	if err != nil {
		return nil, malformed("jwk: %v", err)
	}
	for _, name := range []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"} {
		if _, ok := o[name]; ok {
			return nil, malformed("jwk: it holds the private member %s; "+
				"create a new key, and send its public members only", name)
		}
	}
	m, err := parseMembers(o)
	if err != nil {
		return nil, err
	}
	return newKey(m)
}

func parseMembers(o object) (m members, err error) {
	if m.Kty, err = o.text("kty"); err != nil {
		return m, malformed("jwk: kty: %v", err)
	}
	var fields map[string]*string
	switch m.Kty {
	case "RSA":
		fields = map[string]*string{"n": &m.N, "e": &m.E}
	case "EC":
		fields = map[string]*string{"x": &m.X, "y": &m.Y}
	case "OKP":
		fields = map[string]*string{"x": &m.X}
	default:
		return m, badKey("jwk: kty: %s is not accepted", quote(m.Kty))
	}
	if m.Kty != "RSA" {
		if m.Crv, err = o.text("crv"); err != nil {
			return m, malformed("jwk: crv: %v", err)
		}
	}
	for name, field := range fields {
		if *field, err = o.text(name); err == nil {
			_, err = decode(*field)
		}
		if err != nil {
			return m, malformed("jwk: %s: %v", name, err)
		}
	}
	return m, nil
}

// newKey checks the key itself.
func newKey(m members) (*Key, error) {
	if !slices.Contains([]string{"RSA", "ECP-256", "ECP-384", "OKPEd25519"}, m.Kty+m.Crv) {
		return nil, badKey("jwk: crv: %s is not accepted", quote(m.Crv))
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode the JWK: %w", err)
	}
	var parsed jose.JSONWebKey
	if err := parsed.UnmarshalJSON(raw); err != nil {
		return nil, badKey("jwk: its members are no %s key", m.Kty)
	}
	if k, ok := parsed.Key.(*rsa.PublicKey); ok {
		if err := checkRSA(k); err != nil {
			return nil, err
		}
	}
	return describe(parsed.Key)
}

func checkRSA(k *rsa.PublicKey) error {
	switch bits := k.N.BitLen(); {
	case bits < minRSA || bits > maxRSA:
		return badKey("jwk: n: an RSA key of %d bits is not accepted", bits)
	case k.N.Bit(0) == 0:
		return badKey("jwk: n: it is even, so it is no RSA key")
	case k.E < 3 || k.E > math.MaxInt32 || k.E%2 == 0:
		return badKey("jwk: e: this exponent is not accepted; use 65537, which is AQAB")
	}
	return nil
}

// describe computes the canonical form of a checked key. Leading zeros of n and e are
// gone in it.
func describe(public crypto.PublicKey) (*Key, error) {
	raw, err := (jose.JSONWebKey{Key: public}).MarshalJSON()
	if err != nil {
		return nil, fmt.Errorf("encode the JWK: %w", err)
	}
	var m members
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, fmt.Errorf("encode the JWK: %w", err)
	}
	k := &Key{public: public}
	if k.json, err = json.Marshal(m); err != nil {
		return nil, fmt.Errorf("encode the JWK: %w", err)
	}
	sum := sha256.Sum256(k.json)
	k.thumbprint = encode(sum[:])
	switch p := public.(type) {
	case *rsa.PublicKey:
		k.algorithm = "RS256"
	case ed25519.PublicKey:
		k.algorithm = "EdDSA"
	case *ecdsa.PublicKey:
		k.algorithm = map[int]string{256: "ES256", 384: "ES384"}[p.Curve.Params().BitSize]
	}
	return k, nil
}

// badKey returns a problem of the type badPublicKey. Its detail ends with the fix.
func badKey(format string, args ...any) *acme.Problem {
	return &acme.Problem{
		Type: acme.BadPublicKey, Status: http.StatusBadRequest,
		Detail: fmt.Sprintf(format+"; use RSA with 2048 to 8192 bits, P-256, P-384 or Ed25519", args...),
	}
}

// suits returns a problem if the algorithm is not that of the key.
func (k *Key) suits(algorithm string) error {
	if algorithm == k.algorithm {
		return nil
	}
	p := badAlgorithm(algorithm, []string{k.algorithm})
	p.Detail = fmt.Sprintf("protected: alg: %s does not suit the key; use %s", algorithm, k.algorithm)
	return p
}

// JSON returns the key as a JWK in the canonical form of RFC 7638, section 3.
func (k *Key) JSON() []byte { return slices.Clone(k.json) }

// Public returns the key as an *rsa.PublicKey, *ecdsa.PublicKey or ed25519.PublicKey.
func (k *Key) Public() crypto.PublicKey { return k.public }

// Thumbprint returns the SHA-256 thumbprint of the key in base64url (RFC 7638).
func (k *Key) Thumbprint() string { return k.thumbprint }

// KeyAuthorization returns the key authorization of a challenge (RFC 8555, section 8.1).
func KeyAuthorization(token string, key *Key) string { return token + "." + key.thumbprint }
