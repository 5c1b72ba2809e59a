package auth

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"errors"
	"fmt"
)

// BindingSecretLen is the length in bytes of the secret from which the HMAC keys of
// external account bindings are derived.
const BindingSecretLen = 32

// wordLen is the number of characters of a key identifier or an entrance: 128 bits.
const wordLen = 26

// KeyEntrance is the entrance for registered account keys. It is no secret.
const KeyEntrance = "key"

// words encodes bytes as lower-case letters and digits, so that no shell, URL or option
// parser treats them specially.
var words = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

var errWord = errors.New("not a word that this proxy created")

// newWord returns a random word of 128 bits and its verifier.
func newWord() (word string, verifier []byte) {
	raw := make([]byte, 16)
	rand.Read(raw) // never fails since Go 1.24
	word = words.EncodeToString(raw)
	sum := sha256.Sum256([]byte(word))
	return word, sum[:]
}

// wordVerifier returns the verifier of a word. It refuses other forms, so that the store
// need not be queried.
func wordVerifier(word string) ([]byte, error) {
	if len(word) != wordLen {
		return nil, errWord
	}
	raw, err := words.DecodeString(word)
	if err != nil || words.EncodeToString(raw) != word {
		return nil, errWord
	}
	sum := sha256.Sum256([]byte(word))
	return sum[:], nil
}

// NewBinding creates an external account binding (RFC 8555, section 7.3.4): a random key
// identifier and its HMAC key. This proxy stores no key: the verifier recognizes the identifier,
// and BindingKey derives the key from it and the secret.
func NewBinding(secret []byte) (kid, key string, verifier []byte, err error) {
	for {
		kid, verifier = newWord()
		raw, err := BindingKey(secret, kid)
		if err != nil {
			return "", "", nil, err
		}
		// Programs would take a key with this first character as an option.
		if key = base64.RawURLEncoding.EncodeToString(raw); key[0] != '-' {
			return kid, key, verifier, nil
		}
	}
}

// BindingKey returns the HMAC key of a key identifier. Without the secret, a reader of
// the database cannot compute it.
func BindingKey(secret []byte, kid string) ([]byte, error) {
	if len(secret) != BindingSecretLen {
		return nil, fmt.Errorf("the secret of external account bindings has %d bytes instead of %d", len(secret), BindingSecretLen)
	}
	return hkdf.Key(sha256.New, secret, nil, "acmeproxy external account binding "+kid, sha256.Size)
}

// BindingVerifier returns the hash by which the store recognizes a key identifier.
func BindingVerifier(kid string) ([]byte, error) { return wordVerifier(kid) }

// NewEntrance creates the secret part of a directory's URL: a random word. Store only the
// verifier.
func NewEntrance() (entrance string, verifier []byte) { return newWord() }

// EntranceVerifier returns the hash by which the store recognizes the secret part of a
// directory's URL.
func EntranceVerifier(entrance string) ([]byte, error) { return wordVerifier(entrance) }

// Thumbprint returns the thumbprint of the account key that ThumbprintVerifier returned a
// verifier of.
func Thumbprint(verifier []byte) string { return encoding.EncodeToString(verifier) }

// ThumbprintVerifier returns the hash in the thumbprint of an account key (RFC 7638),
// which is base64url, as its verifier.
func ThumbprintVerifier(thumbprint string) ([]byte, error) {
	sum, err := encoding.DecodeString(thumbprint)
	if err != nil || len(sum) != sha256.Size || encoding.EncodeToString(sum) != thumbprint {
		return nil, errors.New("not the thumbprint of an account key; write its SHA-256 (RFC 7638) in base64url, which has 43 characters")
	}
	return sum, nil
}
