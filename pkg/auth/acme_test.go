package auth

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"testing"
)

// A key identifier leads to the same HMAC key on every instance that has the secret, and
// to another one without it (X17).
func TestBinding(t *testing.T) {
	t.Parallel()
	secret, other := bytes.Repeat([]byte{1}, BindingSecretLen), bytes.Repeat([]byte{2}, BindingSecretLen)
	seen := map[string]bool{}
	for range 300 { // one of 64 keys begins with a hyphen
		kid, key, verifier, err := NewBinding(secret)
		if err != nil {
			t.Fatal(err)
		}
		if len(kid) != wordLen || strings.Trim(kid, "abcdefghijklmnopqrstuvwxyz234567") != "" || key[0] == '-' || seen[kid] {
			t.Fatalf("kid %q, key %q", kid, key)
		}
		seen[kid] = true
		again, err := BindingKey(secret, kid)
		if err != nil || base64.RawURLEncoding.EncodeToString(again) != key || len(again) != 32 {
			t.Errorf("the key again: %x, %v", again, err)
		}
		if foreign, err := BindingKey(other, kid); err != nil || bytes.Equal(foreign, again) {
			t.Errorf("the key of another secret: %x, %v", foreign, err)
		}
		if got, err := BindingVerifier(kid); err != nil || !bytes.Equal(got, verifier) {
			t.Errorf("verifier %x, %v", got, err)
		}
	}
	for _, short := range [][]byte{nil, secret[1:]} {
		if _, _, _, err := NewBinding(short); err == nil {
			t.Errorf("a secret of %d bytes is accepted", len(short))
		}
	}
}

// X25
func TestEntrance(t *testing.T) {
	t.Parallel()
	entrance, verifier := NewEntrance()
	if got, err := EntranceVerifier(entrance); err != nil || !bytes.Equal(got, verifier) {
		t.Errorf("verifier %x, %v", got, err)
	}
	sum := sha256.Sum256([]byte("a key"))
	thumbprint := base64.RawURLEncoding.EncodeToString(sum[:])
	if got, err := ThumbprintVerifier(thumbprint); err != nil || !bytes.Equal(got, sum[:]) {
		t.Errorf("thumbprint %x, %v", got, err)
	}
	for _, bad := range []string{"", "key", strings.ToUpper(entrance), entrance + "a", entrance[1:], entrance[:25] + "b", thumbprint + "=", thumbprint[:42] + "1", thumbprint[1:], "\n" + thumbprint} {
		if _, err := ThumbprintVerifier(bad); err == nil {
			t.Errorf("thumbprint %q is accepted", bad)
		}
		if _, err := EntranceVerifier(bad); err == nil {
			t.Errorf("entrance %q is accepted", bad)
		}
	}
}

// Each word and each thumbprint has only one form.
func FuzzACMEVerifiers(f *testing.F) {
	entrance, _ := NewEntrance()
	f.Add(entrance)
	f.Add(strings.Repeat("A", 43))
	f.Add("key")
	f.Fuzz(func(t *testing.T, s string) {
		if sum, err := EntranceVerifier(s); err == nil {
			if raw, _ := words.DecodeString(s); words.EncodeToString(raw) != s || len(sum) != 32 {
				t.Errorf("word %q", s)
			}
		}
		if sum, err := ThumbprintVerifier(s); err == nil && base64.RawURLEncoding.EncodeToString(sum) != s {
			t.Errorf("thumbprint %q", s)
		}
	})
}
