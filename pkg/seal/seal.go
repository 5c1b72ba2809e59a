// Package seal encrypts with age (age-encryption.org/v1). It encrypts bundles to a
// client's recipients, so that only that client can read them. It encrypts the
// proxy's own secrets to its identity file, so that a stolen database or backup is
// useless without that file.
//
//	recipients, err := seal.ParseRecipients([]string{"age1…", "ssh-ed25519 AAAA…"})
//	ciphertext, err := seal.Seal(bundlePEM, recipients...)
//
// It never runs age plugins and never writes plaintext anywhere.
package seal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"filippo.io/age"
	"filippo.io/age/agessh"
	"filippo.io/age/armor"
	"golang.org/x/crypto/ssh"

	"github.com/acmeproxy/acmeproxy/pkg/localfile"
)

// MaxSealed limits the output of Seal and the input of Open, in bytes of
// ciphertext.
const MaxSealed = 1 << 20

// Seal encrypts plaintext so that each of the recipients can open it.
func Seal(plaintext []byte, recipients ...age.Recipient) ([]byte, error) {
	if len(recipients) == 0 {
		return nil, errors.New("seal: no recipient")
	}
	var out bytes.Buffer
	w, err := age.Encrypt(&out, recipients...)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	if _, err := w.Write(plaintext); err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	if out.Len() > MaxSealed { // Open would refuse it
		return nil, fmt.Errorf("seal: %d bytes are more than the limit of %d", out.Len(), MaxSealed)
	}
	return out.Bytes(), nil
}

// ErrNotForUs reports that none of the identities can open the ciphertext.
var ErrNotForUs = errors.New("sealed to other recipients than this identity")

// Open decrypts the output of Seal, armored or not. ErrNotForUs reports wrong
// identities; any other error reports a damaged ciphertext.
func Open(ciphertext []byte, identities ...age.Identity) ([]byte, error) {
	if len(ciphertext) > MaxSealed {
		return nil, fmt.Errorf("open: %d bytes are more than the limit of %d", len(ciphertext), MaxSealed)
	}
	var src io.Reader = bytes.NewReader(ciphertext)
	if bytes.HasPrefix(ciphertext, []byte(armor.Header)) {
		src = armor.NewReader(src)
	}
	r, err := age.Decrypt(src, identities...)
	if err != nil {
		var no *age.NoIdentityMatchError
		if errors.As(err, &no) {
			return nil, ErrNotForUs
		}
		return nil, fmt.Errorf("open: %w", err)
	}
	plaintext, err := io.ReadAll(r) // always shorter than the ciphertext
	if err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	return plaintext, nil
}

// GenerateIdentity generates a new X25519 identity.
func GenerateIdentity() (*age.X25519Identity, error) { return age.GenerateX25519Identity() }

// ParseIdentities reads an identity file: age's own (AGE-SECRET-KEY-1…) or an
// unencrypted SSH private key. Errors never quote the file.
func ParseIdentities(data []byte) ([]age.Identity, error) {
	if bytes.HasPrefix(bytes.TrimSpace(data), []byte("-----BEGIN")) {
		id, err := agessh.ParseIdentity(data)
		var locked *ssh.PassphraseMissingError
		if errors.As(err, &locked) {
			return nil, errors.New("the SSH key has a passphrase; use a host key or an age identity, which a daemon can read")
		}
		if err != nil {
			return nil, errors.New("not an SSH private key that age can use; it reads ssh-ed25519 and ssh-rsa")
		}
		return []age.Identity{id}, nil
	}
	ids, err := age.ParseIdentities(bytes.NewReader(data))
	if err != nil {
		return nil, errors.New("not an age identity file; age-keygen writes one")
	}
	return ids, nil
}

// LoadOrCreateIdentity reads the X25519 identity at path. If the file does not
// exist, it is created atomically with mode 0600. Several concurrent processes all
// get the same identity. A file that an untrusted user may have placed is a
// *localfile.ForeignError. That user could open everything sealed to it.
func LoadOrCreateIdentity(path string) (*age.X25519Identity, error) {
	id, err := loadIdentity(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return id, err
	}
	if err := createIdentity(path); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("write the identity: %w", err)
	}
	return loadIdentity(path)
}

func loadIdentity(path string) (*age.X25519Identity, error) {
	data, err := localfile.Read(path)
	if err != nil {
		return nil, fmt.Errorf("read the identity: %w", err)
	}
	ids, err := ParseIdentities(data)
	if err != nil {
		return nil, fmt.Errorf("identity %s: %w", path, err)
	}
	id, ok := ids[0].(*age.X25519Identity)
	if !ok || len(ids) != 1 {
		return nil, fmt.Errorf("identity %s must hold exactly one AGE-SECRET-KEY-1… line", path)
	}
	return id, nil
}

// createIdentity writes a new identity to a temporary file and links it to path. It
// never replaces an existing identity, because everything sealed to that would be
// lost.
func createIdentity(path string) error {
	id, err := GenerateIdentity()
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // the link stays
	defer f.Close()
	if err := localfile.SetMode(f, 0o600); err != nil { // on Windows, CreateTemp sets nothing
		return err
	}
	if _, err := fmt.Fprintf(f, "# public key: %s\n%s\n", id.Recipient(), id); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// syncDir syncs a new name to the disk before anything is sealed to the identity.
func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return localfile.SyncDir(d)
}
