package certfile_test

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/cert/certfile"
)

// newBundle is self-signed, with a second certificate for a chain.
func newBundle(serial int64) (*cert.Bundle, error) { return newBundleOf(serial, cert.EC256) }

func newBundleOf(serial int64, keyType cert.KeyType) (*cert.Bundle, error) {
	key, err := cert.GenerateKey(keyType)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "test CA"}, DNSNames: []string{"web1.example.com"},
		NotBefore: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	return &cert.Bundle{Key: key, Leaf: leaf, Chain: []*x509.Certificate{leaf}}, err
}

func bundle(t testing.TB, serial int64) *cert.Bundle {
	t.Helper()
	b, err := newBundle(serial)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func write(t testing.TB, dir string, b *cert.Bundle) {
	t.Helper()
	if err := certfile.Write(t.Context(), dir, b); err != nil {
		t.Fatal(err)
	}
}

// has checks that dir holds exactly b.
func has(t testing.TB, dir string, b *cert.Bundle) {
	t.Helper()
	got, err := certfile.Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !got.Leaf.Equal(b.Leaf) || !cert.SameKey(got.Key.Public(), b.Key.Public()) {
		t.Errorf("the set has serial %s, want %s", got.Serial(), b.Serial())
	}
}

// versionsIn lists the folders of versions, and temporary links too.
func versionsIn(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(dir, ".acmeproxy"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if e.Name() != "current" && e.Name() != "lock" {
			names = append(names, e.Name())
		}
	}
	return names
}

const password = "correct horse ~"

// everything is all formats, with the password file in folder.
func everything(folder string) certfile.Layout {
	return certfile.Layout{Formats: []string{"pem,haproxy", "pkcs12"}, PKCS12PasswordFile: filepath.Join(folder, "password")}
}

func newEverything(t testing.TB, folder string) certfile.Layout {
	t.Helper()
	l := everything(folder)
	if err := os.WriteFile(l.PKCS12PasswordFile, []byte(password+"\r\nmore\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return l
}

func writeAs(t testing.TB, l certfile.Layout, dir string, b *cert.Bundle) {
	t.Helper()
	if err := l.Write(t.Context(), dir, b); err != nil {
		t.Fatal(err)
	}
	if !l.Holds(dir, b) {
		t.Fatalf("what was written is not held: %+v", l)
	}
}

func owner(t *testing.T, name string) certfile.Owner {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "state")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return certfile.Owner{Program: "remote", Dir: dir, Name: name}
}
