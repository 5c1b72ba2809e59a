package auth_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/acmeproxy/acmeproxy/pkg/auth"
)

func rolloverKeys(t testing.TB) map[string]crypto.Signer {
	t.Helper()
	keys := map[string]crypto.Signer{}
	for name, curve := range map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()} {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		keys[name] = key
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keys["Ed25519"] = ed
	if keys["RSA"], err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		t.Fatal(err)
	}
	return keys
}

// A proof is valid only for replacing one key with one other.
func TestKeyProof(t *testing.T) {
	t.Parallel()
	oldPin, otherPin := sha256.Sum256([]byte("old")), sha256.Sum256([]byte("other"))
	for name, key := range rolloverKeys(t) {
		spki, proof, err := auth.ProveKey(key, oldPin)
		if err != nil {
			t.Fatal(err)
		}
		pin, err := auth.CheckKeyProof(spki, proof, oldPin)
		if name == "P-521" { // no TLS client of ours has one
			if err == nil {
				t.Errorf("%s: accepted", name)
			}
			continue
		}
		if err != nil || pin != sha256.Sum256(spki) {
			t.Errorf("%s: %v", name, err)
		}
		for what, bad := range map[string]func() ([]byte, []byte, [32]byte){
			"another old key": func() ([]byte, []byte, [32]byte) { return spki, proof, otherPin },
			"another new key": func() ([]byte, []byte, [32]byte) { return otherSPKI(t), proof, oldPin },
			"no proof":        func() ([]byte, []byte, [32]byte) { return spki, nil, oldPin },
			"a flipped bit":   func() ([]byte, []byte, [32]byte) { return spki, flip(proof), oldPin },
			"a long proof": func() ([]byte, []byte, [32]byte) {
				return spki, append(slices.Clone(proof), make([]byte, 2000)...), oldPin
			},
			"another text": func() ([]byte, []byte, [32]byte) { return spki, signed(t, key, append(oldPin[:], pin[:]...)), oldPin },
			"pins swapped": func() ([]byte, []byte, [32]byte) {
				return spki, signed(t, key, slices.Concat([]byte("acmeproxy client key rollover v1\x00"), pin[:], oldPin[:])), oldPin
			},
			"bytes after the key": func() ([]byte, []byte, [32]byte) { return append(slices.Clone(spki), 0), proof, oldPin },
			"no key":              func() ([]byte, []byte, [32]byte) { return nil, proof, oldPin },
			"a huge key":          func() ([]byte, []byte, [32]byte) { return make([]byte, 1<<20), proof, oldPin },
		} {
			s, p, o := bad()
			if got, err := auth.CheckKeyProof(s, p, o); err == nil || got != [32]byte{} {
				t.Errorf("%s, %s: accepted", name, what)
			}
		}
	}
}

// The documented signatures are accepted, because third parties write clients.
func TestKeyProofAsDocumented(t *testing.T) {
	t.Parallel()
	oldPin := sha256.Sum256([]byte("old"))
	for name, key := range rolloverKeys(t) {
		if name == "P-521" {
			continue
		}
		spki, err := x509.MarshalPKIXPublicKey(key.Public())
		if err != nil {
			t.Fatal(err)
		}
		pin := sha256.Sum256(spki)
		proof := signed(t, key, slices.Concat([]byte("acmeproxy client key rollover v1\x00"), oldPin[:], pin[:]))
		if _, err := auth.CheckKeyProof(spki, proof, oldPin); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err == nil {
		if spki, proof, err := auth.ProveKey(small, oldPin); err == nil {
			if _, err := auth.CheckKeyProof(spki, proof, oldPin); err == nil {
				t.Error("an RSA key of 1024 bits was accepted")
			}
		}
	}
	// One that is too large is refused before its proof is looked at (X41).
	for _, bits := range []uint{8200, 16000} {
		n := new(big.Int).Add(new(big.Int).Lsh(big.NewInt(1), bits-1), big.NewInt(1))
		spki, err := x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: n, E: 65537})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := auth.CheckKeyProof(spki, make([]byte, bits/8), oldPin); err == nil || !strings.Contains(err.Error(), "not a key that a client can have") {
			t.Errorf("RSA key of %d bits: %v", bits, err)
		}
	}
}

func otherSPKI(t testing.TB) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return spki
}

func flip(b []byte) []byte {
	b = slices.Clone(b)
	b[len(b)-1] ^= 1
	return b
}

func signed(t testing.TB, key crypto.Signer, message []byte) []byte {
	t.Helper()
	digest := sha256.Sum256(message)
	input, opts := digest[:], crypto.SignerOpts(crypto.SHA256)
	switch key.(type) {
	case ed25519.PrivateKey:
		input, opts = message, crypto.Hash(0)
	case *rsa.PrivateKey:
		opts = &rsa.PSSOptions{SaltLength: 32, Hash: crypto.SHA256}
	}
	signature, err := key.Sign(rand.Reader, input, opts)
	if err != nil {
		t.Fatal(err)
	}
	return signature
}

func FuzzCheckKeyProof(f *testing.F) {
	oldPin := sha256.Sum256([]byte("old"))
	for _, key := range rolloverKeys(f) {
		spki, proof, err := auth.ProveKey(key, oldPin)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(spki, proof)
	}
	f.Fuzz(func(t *testing.T, spki, proof []byte) {
		pin, err := auth.CheckKeyProof(spki, proof, oldPin)
		if (err == nil) != (pin != [32]byte{}) {
			t.Errorf("pin %x with error %v", pin, err)
		}
		if other, err := auth.CheckKeyProof(spki, proof, sha256.Sum256(oldPin[:])); pin != [32]byte{} && err == nil {
			t.Errorf("the proof is good for two changes, %x and %x", pin, other)
		}
	})
}
