package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"strings"
)

const (
	bearerPrefix = "apt1-"
	bearerBytes  = 32
	checksumLen  = 4
)

// base64url without padding; Strict, so that one token has one spelling.
var encoding = base64.RawURLEncoding.Strict()

var errBearer = errors.New("bearer token is damaged or cut off: copy the whole token again")

// NewBearer makes a bearer token: "apt1-" and, in base64url, 32 random bytes
// and a checksum of 4, which lets a typo be told from a revoked token. Only
// the verifier is to be stored; the token is shown once.
func NewBearer() (token string, verifier []byte) {
	secret := make([]byte, bearerBytes)
	rand.Read(secret) // never fails since Go 1.24
	token = bearerPrefix + encoding.EncodeToString(append(secret, checksum(bearerPrefix, secret)...))
	sum := sha256.Sum256([]byte(token))
	return token, sum[:]
}

// BearerVerifier is what the store knows of a bearer token. A token whose
// form or checksum is wrong is refused without a look at the store.
func BearerVerifier(token string) ([]byte, error) {
	raw, err := decode(bearerPrefix, token)
	if err != nil || len(raw) != bearerBytes {
		return nil, errBearer
	}
	sum := sha256.Sum256([]byte(token))
	return sum[:], nil
}

// decode undoes the common outer form of tokens: prefix, base64url, checksum.
// The bytes returned are those before the checksum.
func decode(prefix, token string) ([]byte, error) {
	text, ok := strings.CutPrefix(token, prefix)
	// The decoder would skip line breaks, which gives one token two spellings.
	if !ok || strings.ContainsAny(text, "\r\n") {
		return nil, errors.New("damaged token")
	}
	raw, err := encoding.DecodeString(text)
	if err != nil || len(raw) < checksumLen {
		return nil, errors.New("damaged token")
	}
	payload, sum := raw[:len(raw)-checksumLen], raw[len(raw)-checksumLen:]
	if subtle.ConstantTimeCompare(sum, checksum(prefix, payload)) != 1 {
		return nil, errors.New("damaged token")
	}
	return payload, nil
}

// checksum guards against slips of the hand, not against attackers. The prefix
// is part of it, so that one kind of token cannot be renamed to another.
func checksum(prefix string, payload []byte) []byte {
	sum := sha256.Sum256(append([]byte(prefix), payload...))
	return sum[:checksumLen]
}
