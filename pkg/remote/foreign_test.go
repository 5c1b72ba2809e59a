//go:build unix

package remote

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/auth"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/localfile"
	"github.com/acmeproxy/acmeproxy/pkg/seal"
)

const stranger = 65534

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("NOT TESTED: only root can give files to another user")
	}
}

// give gives a file to the stranger.
func give(t *testing.T, path string) {
	t.Helper()
	if err := os.Lchown(path, stranger, stranger); err != nil {
		t.Fatal(err)
	}
}

func foreign(t *testing.T, what string, err error) {
	t.Helper()
	var f *localfile.ForeignError
	if !errors.As(err, &f) || f.Owner != stranger || !strings.Contains(err.Error(), "belongs to nobody") || !strings.Contains(err.Error(), "chown") {
		t.Errorf("%s: %v; want a refusal that names the owner and the remedy", what, err)
	}
}

// Enrolment adopts no key, identity or enrolment that another user planted,
// as a file or as a link, and tells the proxy nothing.
func TestEnrollAdoptsNothingForeign(t *testing.T) {
	needRoot(t)
	e := newEvil(t)
	e.on("POST "+api.PathEnroll, jsonAnswer(201, api.Client{Name: "web1"}))
	token := auth.EnrollToken{URL: e.URL, ProxyPin: e.pin}
	key, err := cert.GenerateKey(cert.EC256)
	if err != nil {
		t.Fatal(err)
	}
	keyPEM, err := cert.MarshalKey(key)
	if err != nil {
		t.Fatal(err)
	}
	id, err := seal.GenerateIdentity()
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string]string{keyName: string(keyPEM), identityName: id.String() + "\n", enrolmentName: `{"url":"https://evil.example"}`} {
		for _, link := range []bool{false, true} {
			dir := t.TempDir()
			path := filepath.Join(dir, name)
			if link {
				path = filepath.Join(dir, "elsewhere")
			}
			if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
				t.Fatal(err)
			}
			if link { // of the stranger, to a file of root's
				if err := os.Symlink("elsewhere", filepath.Join(dir, name)); err != nil {
					t.Fatal(err)
				}
			}
			give(t, filepath.Join(dir, name))
			_, err := Enroll(t.Context(), dir, "test", token, EnrollOptions{})
			foreign(t, name, err)
			give(t, dir) // nor in a folder of that user's own
			if name != enrolmentName {
				_, err = Enroll(t.Context(), dir, "test", token, EnrollOptions{})
				foreign(t, name, err)
			}
		}
	}
	file := filepath.Join(t.TempDir(), "id")
	if err := os.WriteFile(file, []byte(id.String()+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	give(t, file)
	_, err = Enroll(t.Context(), t.TempDir(), "test", token, EnrollOptions{Identity: file})
	foreign(t, "--identity", err)
	if n := e.requests.Load(); n != 0 {
		t.Errorf("the proxy was asked %d times", n)
	}
}

// The state directory of a service user works for root as before.
func TestStateOfAServiceUser(t *testing.T) {
	needRoot(t)
	e := newEvil(t)
	s := e.enrolled(t)
	for _, path := range []string{s.Dir, s.path(enrolmentName), s.path(keyName)} {
		give(t, path)
	}
	again, err := Open(s.Dir, "test")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := again.API(); err != nil {
		t.Error(err)
	}
}

// No command uses what another user put into the state directory of a host
// that is enrolled: keys, the files of a rekey, or a hook to run.
func TestStateAdoptsNothingForeign(t *testing.T) {
	needRoot(t)
	e := newEvil(t)
	unknown := jsonAnswer(http.StatusUnauthorized, api.Problem{Status: http.StatusUnauthorized})
	for name, do := range map[string]func(s *State) error{
		keyName:       func(s *State) error { _, err := s.API(); return err },
		enrolmentName: func(s *State) error { _, err := Open(s.Dir, "test"); return err },
		identityName: func(s *State) error {
			_, err := s.identities()
			return err
		},
		keyName + nextSuffix: func(s *State) error { _, err := s.Rekey(t.Context(), ""); return err },
		identityName + nextSuffix: func(s *State) error {
			if _, err := s.signer(keyName + nextSuffix); err != nil {
				return err
			}
			return s.promote()
		},
		enrolmentName + nextSuffix: func(s *State) error {
			if _, err := s.signer(keyName + nextSuffix); err != nil {
				return err
			}
			return s.promote()
		},
		certificatesName + "/evil.json": func(s *State) error { _, err := s.Kept(); return err },
	} {
		e.reset()
		s := e.enrolled(t)
		e.on("GET "+api.PathClient, unknown)
		path := filepath.Join(s.Dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if !exists(path) {
			if err := os.WriteFile(path, []byte("{}"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		give(t, path)
		foreign(t, name, do(s))
	}
}

// A planted link instead of a lock file creates no file elsewhere.
func TestLockIsNoLink(t *testing.T) {
	dir := t.TempDir()
	target := filepath.Join(dir, "nologin")
	if err := os.Symlink(target, filepath.Join(dir, lockName)); err != nil {
		t.Fatal(err)
	}
	if unlock, err := lock(t.Context(), filepath.Join(dir, lockName)); err == nil {
		unlock()
		t.Error("a link was locked")
	}
	if exists(target) {
		t.Error("a file was created behind the link")
	}
}

// The public half next to an identity must belong to it, for every kind of key.
// Otherwise bundles would be sealed to another recipient.
func TestIdentityWithAnothersPublicHalf(t *testing.T) {
	ed := func() (any, error) { _, key, err := ed25519.GenerateKey(rand.Reader); return key, err }
	rsaKey := func() (any, error) { return rsa.GenerateKey(rand.Reader, 2048) }
	for name, generate := range map[string]func() (any, error){"ed25519": ed, "rsa": rsaKey} {
		dir := t.TempDir()
		var lines [2]string
		path := filepath.Join(dir, "id")
		for i := range lines {
			key, err := generate()
			if err != nil {
				t.Fatal(err)
			}
			signer, err := ssh.NewSignerFromKey(key)
			if err != nil {
				t.Fatal(err)
			}
			lines[i] = string(ssh.MarshalAuthorizedKey(signer.PublicKey()))
			block, err := ssh.MarshalPrivateKey(key, "")
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		pairRefused(t, name, path, lines[0], lines[1])
	}
	a, err := seal.GenerateIdentity()
	if err != nil {
		t.Fatal(err)
	}
	b, err := seal.GenerateIdentity()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "id")
	if err := os.WriteFile(path, []byte(b.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	pairRefused(t, "age", path, a.Recipient().String(), b.Recipient().String())
}

// pairRefused enrols with the identity at path, with another's public half and its own.
func pairRefused(t *testing.T, name, path, other, own string) {
	t.Helper()
	e := newEvil(t)
	e.on("POST "+api.PathEnroll, jsonAnswer(201, api.Client{Name: "web1"}))
	enroll := func(public string) error {
		if err := os.WriteFile(path+".pub", []byte(strings.TrimSpace(public)+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := Enroll(t.Context(), t.TempDir(), "test", auth.EnrollToken{URL: e.URL, ProxyPin: e.pin}, EnrollOptions{Identity: path})
		return err
	}
	if err := enroll(other); err == nil || !strings.Contains(err.Error(), path+".pub is not the public half of "+path+"; ") {
		t.Errorf("%s: %v", name, err)
	}
	if n := e.requests.Load(); n != 0 {
		t.Errorf("%s: the proxy was asked %d times", name, n)
	}
	if err := enroll(own); err != nil {
		t.Errorf("%s: %v", name, err)
	}
}
