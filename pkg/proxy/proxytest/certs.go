package proxytest

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
	"golang.org/x/crypto/ssh"

	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/cert/certfile"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/remote"
	"github.com/acmeproxy/acmeproxy/pkg/seal"
)

// Names parses names.
func Names(t testing.TB, list ...string) cert.Names {
	t.Helper()
	n, err := cert.ParseNames(list...)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// NewIdentity creates an age identity and returns it with its recipient.
func NewIdentity(t testing.TB) (*age.X25519Identity, string) {
	t.Helper()
	id, err := seal.GenerateIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return id, id.Recipient().String()
}

// OpenBundle opens a sealed bundle and checks that it is for these names.
func OpenBundle(t testing.TB, ciphertext []byte, want cert.Names, ids ...age.Identity) *cert.Bundle {
	t.Helper()
	plain, err := seal.Open(ciphertext, ids...)
	if err != nil {
		t.Fatal(err)
	}
	b, err := cert.ParseBundle(plain)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := b.Names(); err != nil || !got.Equal(want) {
		t.Errorf("the bundle is for %s, %v; want %s", got, err, want)
	}
	return b
}

// CSR returns a CSR in the API's format.
func CSR(t testing.TB, key crypto.Signer, list cert.Names) string {
	t.Helper()
	der, err := cert.NewCSR(key, list)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

// Get makes a host obtain a certificate and install it into a temporary folder.
func Get(t testing.TB, s *remote.State, mode clients.Mode, list ...string) (*remote.Kept, error) {
	t.Helper()
	g, err := s.Getter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return g.Get(t.Context(), remote.Wanted{Names: Names(t, list...), Mode: mode, KeyType: cert.EC256, Out: filepath.Join(t.TempDir(), "out")})
}

// OnDisk reads the bundle that is installed in a folder.
func OnDisk(t testing.TB, dir string) *cert.Bundle {
	t.Helper()
	b, err := certfile.Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Managed registers a certificate of a new client and opens its bundle.
func (p *Proxy) Managed(t testing.TB, client string, list ...string) (*Caller, api.Certificate, *cert.Bundle) {
	t.Helper()
	id, recipient := NewIdentity(t)
	c := p.NewCaller(t, client, []string{recipient}, Grant(clients.ModeAgent, "*.example.com"))
	m := c.Register(t, list...)
	b := OpenBundle(t, c.Bundle(t, m.ID, "").Body, Names(t, list...), id)
	return c, m, b
}

// SSHKey creates an SSH host key. It returns the public line, and the file of the
// private key with the public one beside it.
func SSHKey(t testing.TB) (line, file string) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	line = strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))) + " root@web1"
	file = filepath.Join(t.TempDir(), "ssh_host_ed25519_key")
	for path, data := range map[string][]byte{file: pem.EncodeToMemory(block), file + ".pub": []byte(line + "\n")} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return line, file
}

// WantRevoked checks whether the CA has revoked a certificate, and why.
func (p *Proxy) WantRevoked(t testing.TB, b *cert.Bundle, want bool, reason cert.Reason) {
	t.Helper()
	got, revoked := p.CA.Revoked(b.Leaf.SerialNumber)
	if revoked != want || revoked && got != reason.Code() {
		t.Errorf("at the CA: revoked %v, reason %d; want %v, %s", revoked, got, want, reason)
	}
}
