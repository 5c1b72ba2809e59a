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

// encoding is base64url without padding. It is strict, so that each token has only one
// encoded form.
var encoding = base64.RawURLEncoding.Strict()

var errBearer = errors.New("bearer token is damaged or cut off; copy the whole token again")

// NewBearer creates a bearer token: "apt1-" and, in base64url, 32 random bytes and a
// checksum of 4, which distinguishes a typo from a revoked token. Store only the
// verifier. The token is shown once.
func NewBearer() (token string, verifier []byte) {
	secret := make([]byte, bearerBytes)
	rand.Read(secret) // never fails since Go 1.24
	token = bearerPrefix + encoding.EncodeToString(append(secret, checksum(bearerPrefix, secret)...))
	sum := sha256.Sum256([]byte(token))
	return token, sum[:]
}

// BearerVerifier returns the hash by which the store recognizes a bearer token. The
// error reports a wrong form or checksum, so that the store need not be queried.
func BearerVerifier(token string) ([]byte, error) {
	raw, err := decode(bearerPrefix, token)
	if err != nil || len(raw) != bearerBytes {
		return nil, errBearer
	}
	sum := sha256.Sum256([]byte(token))
	return sum[:], nil
}

// decode removes the prefix, decodes the base64url and verifies the checksum of a
// token. It returns the bytes before the checksum.
func decode(prefix, token string) ([]byte, error) {
	text, ok := strings.CutPrefix(token, prefix)
	// The decoder skips line breaks, which would give one token several forms.
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

// checksum returns a checksum against typing errors, not against attackers. It
// includes the prefix, so that a token of one kind is invalid as another kind.
func checksum(prefix string, payload []byte) []byte {
	sum := sha256.Sum256(append([]byte(prefix), payload...))
	return sum[:checksumLen]
}
