package seal

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"

	"filippo.io/age"
	"golang.org/x/crypto/chacha20poly1305"
)

// Box seals short messages for the holders of one identity file, for one purpose.
// It uses XChaCha20-Poly1305 with a key that HKDF-SHA256 derives from the identity.
// Unlike age's ciphertext, it also proves that the sender holds the identity. It is
// safe for concurrent use.
type Box struct {
	aead    cipher.AEAD
	purpose []byte
}

// BoxOverhead is the difference in length between a sealed message and its
// plaintext.
const BoxOverhead = chacha20poly1305.NonceSizeX + chacha20poly1305.Overhead

// NewBox returns the box of an identity for a purpose. A box for another purpose
// does not open its messages.
func NewBox(identity *age.X25519Identity, purpose string) (*Box, error) {
	key, err := hkdf.Key(sha256.New, []byte(identity.String()), nil, purpose, chacha20poly1305.KeySize)
	if err != nil {
		return nil, fmt.Errorf("derive a key: %w", err)
	}
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		return nil, fmt.Errorf("derive a key: %w", err)
	}
	return &Box{aead, []byte(purpose)}, nil
}

// Seal encrypts a message with a random nonce and prepends the nonce.
func (b *Box) Seal(message []byte) []byte {
	nonce := make([]byte, chacha20poly1305.NonceSizeX, len(message)+BoxOverhead)
	rand.Read(nonce)
	return b.aead.Seal(nonce, nonce, message, b.purpose)
}

// Open decrypts the output of Seal. It returns one error for all failures, without
// the cause.
func (b *Box) Open(sealed []byte) ([]byte, error) {
	if len(sealed) < BoxOverhead {
		return nil, errBox
	}
	nonce, ciphertext := sealed[:chacha20poly1305.NonceSizeX], sealed[chacha20poly1305.NonceSizeX:]
	message, err := b.aead.Open(nil, nonce, ciphertext, b.purpose)
	if err != nil {
		return nil, errBox
	}
	return message, nil
}

var errBox = errors.New("not sealed by this identity")
