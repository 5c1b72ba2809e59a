package cert_test

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"strings"
	"sync"
	"testing"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
)

// rsaKey makes each size once: it takes long.
func rsaKey(t testing.TB, bits int) *rsa.PrivateKey {
	t.Helper()
	once, _ := rsaKeys.LoadOrStore(bits, sync.OnceValues(func() (*rsa.PrivateKey, error) {
		return rsa.GenerateKey(rand.Reader, bits)
	}))
	key, err := once.(func() (*rsa.PrivateKey, error))()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

var rsaKeys sync.Map // bits → func() (*rsa.PrivateKey, error)

func ecKey(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func generate(t testing.TB, kt cert.KeyType) crypto.Signer {
	t.Helper()
	key, err := cert.GenerateKey(kt)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestKeyRoundTrip(t *testing.T) { // A30
	for _, kt := range []cert.KeyType{cert.EC256, cert.EC384, cert.RSA2048} { // larger ones take too long
		key := generate(t, kt)
		if got, err := cert.KeyTypeOf(key.Public()); err != nil || got != kt {
			t.Errorf("KeyTypeOf = %q, %v; want %q", got, err, kt)
		}
		data, err := cert.MarshalKey(key)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(data, []byte("-----BEGIN PRIVATE KEY-----\n")) {
			t.Errorf("%s: not PKCS#8", kt)
		}
		again, err := cert.ParseKey(data)
		if err != nil || !cert.SameKey(again.Public(), key.Public()) {
			t.Errorf("%s: ParseKey: %v", kt, err)
		}
	}
}

func TestParseKeyFormats(t *testing.T) {
	ec, rsa := ecKey(t, elliptic.P256()), rsaKey(t, 2048)
	sec1, err := x509.MarshalECPrivateKey(ec)
	if err != nil {
		t.Fatal(err)
	}
	params := pem.EncodeToMemory(&pem.Block{Type: "EC PARAMETERS", Bytes: []byte{6, 1, 1}})
	sec1PEM := append(params, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: sec1})...)
	if got, err := cert.ParseKey(sec1PEM); err != nil || !cert.SameKey(got.Public(), ec.Public()) {
		t.Errorf("SEC 1 after its parameters: %v", err)
	}
	pkcs1 := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(rsa)})
	if got, err := cert.ParseKey(pkcs1); err != nil || !cert.SameKey(got.Public(), rsa.Public()) {
		t.Errorf("PKCS#1: %v", err)
	}
}

func TestParseKeyRefuses(t *testing.T) {
	dh, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	x25519, err := x509.MarshalPKCS8PrivateKey(dh)
	if err != nil {
		t.Fatal(err)
	}
	secret := []byte("c2VjcmV0IHNlY3JldA")
	for name, c := range map[string]struct {
		in   []byte
		want string
	}{
		"empty":       {nil, "no PEM private key"},
		"certificate": {pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secret}), "no PEM private key"},
		"damaged":     {pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), "damaged"},
		"damaged EC":  {pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: secret}), "damaged"},
		"damaged RSA": {pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: secret}), "damaged"},
		"encrypted":   {pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: secret}), "convert it to PKCS#8"},
		"X25519":      {pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: x25519}), "cannot sign"},
	} {
		key, err := cert.ParseKey(c.in)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %v; want an error with %q", name, key, err, c.want)
		} else if strings.Contains(err.Error(), "c2Vj") || strings.Contains(err.Error(), string(secret)) {
			t.Errorf("%s: the error quotes the key: %v", name, err)
		}
	}
}

func TestKeyTypeOf(t *testing.T) {
	modulus := func(bits uint) *big.Int {
		return new(big.Int).Add(new(big.Int).Lsh(big.NewInt(1), bits-1), big.NewInt(1))
	}
	edPublic, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		public crypto.PublicKey
		want   cert.KeyType // empty: refused
		err    string
	}{
		"P-256":      {&ecKey(t, elliptic.P256()).PublicKey, cert.EC256, ""},
		"P-384":      {&ecKey(t, elliptic.P384()).PublicKey, cert.EC384, ""},
		"P-224":      {&ecKey(t, elliptic.P224()).PublicKey, "", "P-224"},
		"P-521":      {&ecKey(t, elliptic.P521()).PublicKey, "", "P-521"},
		"RSA 1024":   {&rsa.PublicKey{N: modulus(1024), E: 65537}, "", "1024 bits"},
		"RSA 2047":   {&rsa.PublicKey{N: modulus(2047), E: 65537}, "", "2047 bits"},
		"RSA 2048":   {&rsa.PublicKey{N: modulus(2048), E: 65537}, cert.RSA2048, ""},
		"RSA 3072":   {&rsa.PublicKey{N: modulus(3072), E: 65537}, cert.RSA4096, ""},
		"RSA 4096":   {&rsa.PublicKey{N: modulus(4096), E: 65537}, cert.RSA4096, ""},
		"RSA 8192":   {&rsa.PublicKey{N: modulus(8192), E: 65537}, cert.RSA8192, ""},
		"RSA 16384":  {&rsa.PublicKey{N: modulus(16384), E: 65537}, "", "16384 bits"},
		"exponent 3": {&rsa.PublicKey{N: modulus(2048), E: 3}, "", "exponent 3"},
		"even":       {&rsa.PublicKey{N: modulus(2048), E: 65538}, "", "exponent 65538"},
		"Ed25519":    {edPublic, "", "Ed25519"},
		"none":       {nil, "", "not accepted"},
	} {
		got, err := cert.KeyTypeOf(c.public)
		if got != c.want || (err == nil) != (c.want != "") || (err != nil && !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%s: %q, %v; want %q %s", name, got, err, c.want, c.err)
		}
	}
}

func TestParseKeyType(t *testing.T) {
	for in, want := range map[string]cert.KeyType{"": cert.EC256, "EC384": cert.EC384, "rsa8192": cert.RSA8192} {
		if got, err := cert.ParseKeyType(in); err != nil || got != want {
			t.Errorf("%q: %q, %v; want %q", in, got, err, want)
		}
	}
	if _, err := cert.ParseKeyType("p521"); err == nil || !strings.Contains(err.Error(), "ec256, ec384, rsa2048, rsa4096, rsa8192") {
		t.Errorf("p521: %v; want an error that lists the key types", err)
	}
	if _, err := cert.GenerateKey("p521"); err == nil {
		t.Error("a key of an unknown type was made")
	}
}

func TestSameKey(t *testing.T) {
	a, b := generate(t, cert.EC256), generate(t, cert.EC256)
	for name, c := range map[string]struct {
		a, b crypto.PublicKey
		want bool
	}{
		"same": {a.Public(), a.Public(), true}, "other": {a.Public(), b.Public(), false},
		"other kind": {a.Public(), rsaKey(t, 2048).Public(), false}, "none": {nil, nil, false}, "one": {a.Public(), nil, false},
	} {
		if got := cert.SameKey(c.a, c.b); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
