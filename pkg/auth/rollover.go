package auth

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
)

// rolloverContext separates signatures of rollovers from all other signatures.
const rolloverContext = "acmeproxy client key rollover v1\x00"

// Limits of a rollover's data, in bytes. An RSA key has at most 8192 bits.
const (
	maxSPKI  = 2 << 10
	maxProof = 1 << 10

	minRSABits, maxRSABits = 2048, 8192
)

// rolloverMessage returns the message that the new key signs. It contains both pins,
// so that a proof is valid for one change only. (The inner JWS of RFC 8555, section
// 7.3.5, also identifies both keys.)
func rolloverMessage(oldPin, newPin [pinLen]byte) []byte {
	m := append([]byte(rolloverContext), oldPin[:]...)
	return append(m, newPin[:]...)
}

// ProveKey returns the arguments of CheckKeyProof: the new key's SubjectPublicKeyInfo,
// and its signature that it replaces the key with oldPin.
func ProveKey(key crypto.Signer, oldPin [pinLen]byte) (spki, proof []byte, err error) {
	if spki, err = x509.MarshalPKIXPublicKey(key.Public()); err != nil {
		return nil, nil, fmt.Errorf("the new key: %w", err)
	}
	message := rolloverMessage(oldPin, sha256.Sum256(spki))
	switch key.Public().(type) {
	case ed25519.PublicKey:
		proof, err = key.Sign(rand.Reader, message, crypto.Hash(0))
	case *rsa.PublicKey:
		digest := sha256.Sum256(message)
		proof, err = key.Sign(rand.Reader, digest[:], &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256})
	default:
		digest := sha256.Sum256(message)
		proof, err = key.Sign(rand.Reader, digest[:], crypto.SHA256)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("sign with the new key: %w", err)
	}
	return spki, proof, nil
}

var errKeyProof = errors.New("not a signature of the new key for this change of keys")

// CheckKeyProof verifies that the holder of the key in spki wants it to replace the
// key with oldPin, and returns the new key's pin. The key is Ed25519, ECDSA on P-256
// or P-384, or RSA of 2048 to 8192 bits. The proof is an Ed25519 signature, ECDSA
// with SHA-256 (ASN.1), or PSS with SHA-256 and a salt of 32 bytes.
func CheckKeyProof(spki, proof []byte, oldPin [pinLen]byte) (newPin [pinLen]byte, err error) {
	public, err := parseSPKI(spki)
	if err != nil {
		return newPin, err
	}
	if len(proof) == 0 || len(proof) > maxProof {
		return newPin, errKeyProof
	}
	newPin = sha256.Sum256(spki)
	message := rolloverMessage(oldPin, newPin)
	digest := sha256.Sum256(message)
	good := false
	switch public := public.(type) {
	case ed25519.PublicKey:
		good = ed25519.Verify(public, message, proof)
	case *ecdsa.PublicKey:
		good = ecdsa.VerifyASN1(public, digest[:], proof)
	case *rsa.PublicKey:
		good = rsa.VerifyPSS(public, crypto.SHA256, digest[:], proof, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
	}
	if !good {
		return [pinLen]byte{}, errKeyProof
	}
	return newPin, nil
}

// parseSPKI parses a key that a client may have. It accepts only the encoding that a
// TLS handshake uses, because no client could prove a key in another encoding.
func parseSPKI(spki []byte) (crypto.PublicKey, error) {
	const remedy = "write an Ed25519, ECDSA (P-256, P-384) or RSA (2048 to 8192 bits) key as DER of its SubjectPublicKeyInfo"
	if len(spki) > maxSPKI {
		return nil, fmt.Errorf("%d bytes are too long for a public key; %s", len(spki), remedy)
	}
	public, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return nil, errors.New("not a public key; " + remedy)
	}
	ok := false
	switch k := public.(type) {
	case ed25519.PublicKey:
		ok = true
	case *ecdsa.PublicKey:
		ok = k.Curve == elliptic.P256() || k.Curve == elliptic.P384()
	case *rsa.PublicKey:
		ok = k.N.BitLen() >= minRSABits && k.N.BitLen() <= maxRSABits
	}
	again, err := x509.MarshalPKIXPublicKey(public)
	if err != nil || !ok || !bytes.Equal(again, spki) {
		return nil, errors.New("not a key that a client can have; " + remedy)
	}
	return public, nil
}
