package seal_test

import (
	"bytes"
	"testing"

	"filippo.io/age"

	"github.com/acmeproxy/acmeproxy/pkg/seal"
)

// Only who holds the identity opens a box or makes one, for its purpose alone
// (X18).
func TestBox(t *testing.T) {
	t.Parallel()
	ours, err := seal.GenerateIdentity()
	if err != nil {
		t.Fatal(err)
	}
	other, err := seal.GenerateIdentity()
	if err != nil {
		t.Fatal(err)
	}
	box := func(purpose string, id *age.X25519Identity) *seal.Box {
		t.Helper()
		b, err := seal.NewBox(id, purpose)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	message := []byte("web1.example.com")
	b := box("test", ours)
	sealed := b.Seal(message)
	if len(sealed) != len(message)+seal.BoxOverhead || bytes.Contains(sealed, message) || bytes.Equal(sealed, b.Seal(message)) {
		t.Errorf("sealed: %x", sealed)
	}
	if got, err := box("test", ours).Open(sealed); err != nil || !bytes.Equal(got, message) {
		t.Errorf("%q, %v", got, err)
	}
	for name, wrong := range map[string]*seal.Box{"purpose": box("other", ours), "identity": box("test", other)} {
		if got, err := wrong.Open(sealed); err == nil {
			t.Errorf("another %s opens it: %q", name, got)
		}
	}
	for i := range sealed {
		changed := bytes.Clone(sealed)
		changed[i] ^= 1
		if _, err := b.Open(changed); err == nil {
			t.Errorf("byte %d was changed without an error", i)
		}
		if _, err := b.Open(sealed[:i]); err == nil {
			t.Errorf("%d bytes of it open", i)
		}
	}
}
