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

// Box seals short messages between those who hold the same identity file, for
// one purpose: XChaCha20-Poly1305 under a key that HKDF-SHA256 makes of the
// identity. Unlike age's ciphertext it proves, too, that the sender holds the
// identity. It is safe for concurrent use.
type Box struct {
	aead    cipher.AEAD
	purpose []byte
}

// BoxOverhead is how much longer a sealed message is than its plaintext.
const BoxOverhead = chacha20poly1305.NonceSizeX + chacha20poly1305.Overhead

// NewBox returns the box of an identity for a purpose; one of another purpose
// does not open what this one has sealed.
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

// Seal encrypts a message under a random nonce, which goes before it.
func (b *Box) Seal(message []byte) []byte {
	nonce := make([]byte, chacha20poly1305.NonceSizeX, len(message)+BoxOverhead)
	rand.Read(nonce)
	return b.aead.Seal(nonce, nonce, message, b.purpose)
}

// Open decrypts what Seal made. There is one error, which says nothing of why.
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
