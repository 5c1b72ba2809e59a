package cert

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// KeyType names the algorithm and size of a certificate's key.
type KeyType string

// Key types that public CAs accept.
const (
	EC256   KeyType = "ec256"
	EC384   KeyType = "ec384"
	RSA2048 KeyType = "rsa2048"
	RSA4096 KeyType = "rsa4096"
	RSA8192 KeyType = "rsa8192"
)

// KeyTypes lists every key type, the default one first.
var KeyTypes = []KeyType{EC256, EC384, RSA2048, RSA4096, RSA8192}

// ParseKeyType reads a key type as people write it; "" is the default, ec256.
func ParseKeyType(s string) (KeyType, error) {
	if s == "" {
		return EC256, nil
	}
	k := KeyType(strings.ToLower(s))
	if !slices.Contains(KeyTypes, k) {
		return "", fmt.Errorf("unknown key type %q; write one of %s", s, join(KeyTypes))
	}
	return k, nil
}

func join(types []KeyType) string {
	s := make([]string, len(types))
	for i, t := range types {
		s[i] = string(t)
	}
	return strings.Join(s, ", ")
}

// GenerateKey generates a new key. RSA keys of 8192 bits take seconds.
func GenerateKey(t KeyType) (crypto.Signer, error) {
	switch t {
	case EC256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case EC384:
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case RSA2048:
		return rsa.GenerateKey(rand.Reader, 2048)
	case RSA4096:
		return rsa.GenerateKey(rand.Reader, 4096)
	case RSA8192:
		return rsa.GenerateKey(rand.Reader, 8192)
	}
	return nil, fmt.Errorf("unknown key type %q", t)
}

// KeyTypeOf returns the type of a public key. The error says why no CA would accept
// the key.
func KeyTypeOf(pub crypto.PublicKey) (KeyType, error) {
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return EC256, nil
		case elliptic.P384():
			return EC384, nil
		}
		return "", fmt.Errorf("curve %s is not accepted; use P-256 or P-384", k.Curve.Params().Name)
	case *rsa.PublicKey:
		if k.E < 65537 || k.E&1 == 0 || k.E > maxExponent {
			return "", fmt.Errorf("RSA exponent %d is not accepted; use 65537", k.E)
		}
		// A modulus of another size is legal, but usually a typo.
		switch k.N.BitLen() {
		case 2048:
			return RSA2048, nil
		case 3072, 4096:
			return RSA4096, nil
		case 8192:
			return RSA8192, nil
		}
		return "", fmt.Errorf("RSA key of %d bits is not accepted; use 2048, 3072, 4096 or 8192", k.N.BitLen())
	case ed25519.PublicKey:
		return "", errors.New("Ed25519 keys are not accepted; use P-256")
	}
	return "", fmt.Errorf("keys of type %T are not accepted; use P-256", pub)
}

// MaxRSABits is the maximum size of the RSA modulus of a public key from outside.
// The time of one verification grows with the square of its size and cannot be
// cancelled.
const MaxRSABits = 8192

// maxExponent is the largest public exponent that crypto/rsa computes with.
const maxExponent = 1<<31 - 1

// CheckSize returns an error for an RSA key that is too costly to compute with.
// Call it before a key from outside verifies or encrypts anything.
func CheckSize(pub crypto.PublicKey) error {
	k, ok := pub.(*rsa.PublicKey)
	if !ok {
		return nil
	}
	if bits := k.N.BitLen(); bits > MaxRSABits {
		return fmt.Errorf("RSA key of %d bits is too large; use one of at most %d", bits, MaxRSABits)
	}
	if k.E > maxExponent {
		return fmt.Errorf("RSA exponent %d is too large; use 65537", k.E)
	}
	return nil
}

// MarshalKey encodes a key as PKCS#8 PEM.
func MarshalKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode the private key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// maxKeyDER is the maximum size of a decoded private key in bytes. An RSA key of
// MaxRSABits has about 4,700. crypto/x509 computes with all numbers of a larger key
// before it returns it.
const maxKeyDER = 6 << 10

// ParseKey reads a PEM private key: PKCS#8, SEC 1 or PKCS#1. An RSA key has at most
// MaxRSABits. Errors never quote the input.
func ParseKey(data []byte) (crypto.Signer, error) {
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if strings.HasSuffix(block.Type, "PRIVATE KEY") {
			return parseKeyBlock(block)
		}
	}
	return nil, errors.New("no PEM private key found")
}

func parseKeyBlock(block *pem.Block) (crypto.Signer, error) {
	var key any
	var err error
	if len(block.Bytes) > maxKeyDER {
		return nil, fmt.Errorf("private key of %d bytes is too large; use RSA of at most %d bits", len(block.Bytes), MaxRSABits)
	}
	switch block.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	default:
		return nil, fmt.Errorf("PEM block %q is not a private key this program reads; convert it to PKCS#8", block.Type)
	}
	if err != nil {
		return nil, fmt.Errorf("damaged %s block", block.Type)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("key of type %T cannot sign", key)
	}
	if err := CheckSize(signer.Public()); err != nil {
		return nil, err
	}
	return signer, nil
}

// publicKey is implemented by every public key of the standard library.
type publicKey interface{ Equal(crypto.PublicKey) bool }

// SameKey reports whether both public keys are equal.
func SameKey(a, b crypto.PublicKey) bool {
	k, ok := a.(publicKey)
	return ok && k.Equal(b)
}
