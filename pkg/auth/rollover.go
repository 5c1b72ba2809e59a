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

// rolloverContext keeps the signature of a rollover from being one of anything
// else.
const rolloverContext = "acmeproxy client key rollover v1\x00"

// Sizes of what a rollover brings, in bytes; an RSA key has at most 8192 bits.
const (
	maxSPKI  = 2 << 10
	maxProof = 1 << 10

	minRSABits, maxRSABits = 2048, 8192
)

// rolloverMessage is what the new key signs: both pins, so that a proof is good
// for one change only. (RFC 8555, section 7.3.5, has the same two in its inner
// JWS.)
func rolloverMessage(oldPin, newPin [pinLen]byte) []byte {
	m := append([]byte(rolloverContext), oldPin[:]...)
	return append(m, newPin[:]...)
}

// ProveKey makes what CheckKeyProof wants: the new key's SubjectPublicKeyInfo,
// and its signature that it is to take the place of the key with oldPin.
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

// CheckKeyProof tells whether the holder of the key in spki wants it in the
// place of the key with oldPin, and returns the new key's pin. The key is Ed25519,
// ECDSA on P-256 or P-384, or RSA of 2048 to 8192 bits; the proof Ed25519, ECDSA
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

// parseSPKI reads a key that a client may have, in the one encoding that a TLS
// handshake shows: of another, nobody could ever prove that he has it.
func parseSPKI(spki []byte) (crypto.PublicKey, error) {
	const remedy = "write an Ed25519, ECDSA (P-256, P-384) or RSA (2048 to 8192 bits) key as DER of its SubjectPublicKeyInfo"
	if len(spki) > maxSPKI {
		return nil, fmt.Errorf("%d bytes are no public key; %s", len(spki), remedy)
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
