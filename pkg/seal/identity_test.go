//go:build unix

package seal_test

import (
	"bytes"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"filippo.io/age"
	"golang.org/x/sys/unix"

	"github.com/acmeproxy/acmeproxy/pkg/seal"
)

func TestIdentityFile(t *testing.T) { // A38
	for _, umask := range []int{0, 0o077} {
		dir := t.TempDir()
		path := filepath.Join(dir, "identity")
		old := unix.Umask(umask)
		first, err := seal.LoadOrCreateIdentity(path)
		unix.Umask(old)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("umask %03o: mode %v, %v; want 0600", umask, info.Mode(), err)
		}
		second, err := seal.LoadOrCreateIdentity(path)
		if err != nil || second.String() != first.String() {
			t.Errorf("second load: %v, or another identity", err)
		}
		data, err := os.ReadFile(path)
		if err != nil || !bytes.HasPrefix(data, []byte("# public key: "+first.Recipient().String()+"\n")) {
			t.Errorf("the file does not begin with its public key (%v)", err)
		}
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
			t.Errorf("%v, %v; want the identity alone", entries, err)
		}
	}
}

// Simultaneous callers get the same identity. One that was replaced could not open
// data that was sealed to it.
func TestIdentityFileRace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "identity")
	var ids sync.Map
	var g sync.WaitGroup
	for range 8 {
		g.Go(func() {
			id, err := seal.LoadOrCreateIdentity(path)
			if err != nil {
				t.Error(err)
				return
			}
			ids.Store(id.String(), nil)
		})
	}
	g.Wait()
	n := 0
	ids.Range(func(any, any) bool { n++; return true })
	if n != 1 {
		t.Errorf("%d identities", n)
	}
}

func TestIdentityFileDamaged(t *testing.T) {
	a, b := x25519(t), x25519(t)
	for name, c := range map[string]struct {
		text []byte
		want string
	}{
		"empty":       {nil, "not an age identity file"},
		"cut off":     {a.private[:40], "not an age identity file"},
		"one changed": {bytes.Replace(a.private, []byte("KEY-1"), []byte("KEY-1Q"), 1), "not an age identity file"},
		"two":         {append(bytes.Clone(a.private), b.private...), "exactly one"},
		"SSH":         {sshEd25519(t).private, "exactly one"},
	} {
		path := filepath.Join(t.TempDir(), "identity")
		if err := os.WriteFile(path, c.text, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := seal.LoadOrCreateIdentity(path)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v; want an error with %q and the file's name", name, err, c.want)
		} else if strings.Contains(err.Error(), "AGE-SECRET-KEY-1Q") || strings.Contains(err.Error(), string(a.private[15:30])) {
			t.Errorf("%s: the error quotes the file: %v", name, err)
		}
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, c.text) {
			t.Errorf("%s: the file was changed", name)
		}
	}
	dir := t.TempDir()
	dangling := filepath.Join(dir, "identity")
	if err := os.Symlink(filepath.Join(dir, "none"), dangling); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dangling, dir, filepath.Join(dir, "none", "identity")} {
		if id, err := seal.LoadOrCreateIdentity(path); err == nil {
			t.Errorf("%s: %v", path, id)
		}
	}
	if _, err := os.Lstat(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an identity was written through a link: %v", err)
	}
}

func TestParseIdentitiesRefuses(t *testing.T) {
	x, host := x25519(t), sshEd25519(t)
	locked := &pem.Block{Type: "RSA PRIVATE KEY", Headers: map[string]string{"Proc-Type": "4,ENCRYPTED"}, Bytes: []byte("x")}
	for name, c := range map[string]struct {
		text []byte
		want string
	}{
		"empty":         {nil, "not an age identity"},
		"comments only": {[]byte("# public key: " + x.public + "\n"), "not an age identity"},
		"public key":    {[]byte(x.public), "not an age identity"},
		"plugin":        {[]byte("AGE-PLUGIN-YUBIKEY-1QQPSYQYQSZQGPQYQSZQGP"), "not an age identity"},
		"cut off":       {x.private[:50], "not an age identity"},
		"SSH public":    {[]byte(host.public), "not an age identity"},
		"SSH cut off":   {host.private[:120], "not an SSH private key"},
		"SSH locked":    {pem.EncodeToMemory(locked), "passphrase"},
		"certificate":   {pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")}), "not an SSH private key"},
	} {
		ids, err := seal.ParseIdentities(c.text)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %v; want an error with %q", name, ids, err, c.want)
			continue
		}
		for _, part := range strings.Fields(string(c.text)) {
			if len(part) > 16 && strings.Contains(err.Error(), part[:16]) {
				t.Errorf("%s: the error quotes the file: %v", name, err)
			}
		}
	}
}

func FuzzParseIdentities(f *testing.F) {
	x := x25519(f)
	for _, data := range [][]byte{
		nil, x.private, append([]byte("# comment\n\n"), x.private...), sshEd25519(f).private, sshRSA(f).private,
		[]byte("AGE-SECRET-KEY-1"), []byte("-----BEGIN OPENSSH PRIVATE KEY-----\n"), []byte("\n-----BEGIN"),
	} {
		f.Add(data)
	}
	ciphertext := sealTo(f, x25519(f))
	f.Fuzz(func(t *testing.T, data []byte) {
		ids, err := seal.ParseIdentities(data)
		if err != nil {
			if text := strings.TrimSpace(string(data)); len(text) > 24 && strings.Contains(err.Error(), text) {
				t.Errorf("the error quotes the file: %v", err)
			}
			return
		}
		if len(ids) == 0 {
			t.Fatal("no identity and no error")
		}
		if got, err := seal.Open(ciphertext, ids...); !errors.Is(err, seal.ErrNotForUs) {
			t.Errorf("opened another's: %q, %v", got, err)
		}
		if id, ok := ids[0].(*age.X25519Identity); ok && len(ids) == 1 {
			if again, err := seal.ParseIdentities([]byte(id.String())); err != nil || len(again) != 1 {
				t.Errorf("what was read does not read again: %v", err)
			}
		}
	})
}
