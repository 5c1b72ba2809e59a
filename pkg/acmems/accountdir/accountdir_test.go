package accountdir_test

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmems/accountdir"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/challenge"
	"github.com/acmeproxy/acmeproxy/pkg/issuer"
	"github.com/acmeproxy/acmeproxy/pkg/responder"
)

var _ issuer.Accounts = (*accountdir.Folder)(nil)

// A missing folder gets a private RSA key of 4096 bits at the first use, and the same one
// afterwards (M49).
func TestCreate(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "acmems", "account")
	key, url, email, err := accountdir.New(dir).Account(t.Context(), "")
	if err != nil || url != "" || email != "" {
		t.Fatalf("%q %q %v", url, email, err)
	}
	if k, ok := key.(*rsa.PrivateKey); !ok || k.N.BitLen() != 4096 {
		t.Errorf("%T", key)
	}
	again, _, _, err := accountdir.New(dir).Account(t.Context(), "")
	if err != nil || !cert.SameKey(again.Public(), key.Public()) {
		t.Errorf("another key: %v", err)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 || files[0].Name() != "account.pem" {
		t.Errorf("%v %v", files, err)
	}
	if err := accountdir.New(dir).SetURL(t.Context(), "", "https://ca.example.com/acct/1", "ops@example.com"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"account.pem", "registration.json"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: %v %v", name, info.Mode(), err)
		}
	}
	if _, url, email, err := accountdir.New(dir).Account(t.Context(), ""); url != "https://ca.example.com/acct/1" || email != "ops@example.com" || err != nil {
		t.Errorf("%q %q %v", url, email, err)
	}
}

// write creates the folder as ACMEMS does: with readable files and fields of python-acme.
func write(t *testing.T, url string) (dir string, key *rsa.PrivateKey) {
	t.Helper()
	dir = t.TempDir()
	generated, err := cert.GenerateKey(cert.RSA2048)
	if err != nil {
		t.Fatal(err)
	}
	text, err := cert.MarshalKey(generated)
	if err != nil {
		t.Fatal(err)
	}
	registration := fmt.Sprintf(`{
    "body": {
        "contact": [],
        "key": {"e": "AQAB", "kty": "RSA", "n": "abc"},
        "status": "valid"
    },
    "uri": %q
}`, url)
	for name, content := range map[string]string{"account.pem": string(text), "registration.json": registration} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir, generated.(*rsa.PrivateKey)
}

// The files of ACMEMS are used, and what this package does not know stays in them.
func TestFilesOfACMEMS(t *testing.T) {
	t.Parallel()
	dir, key := write(t, "https://ca.example.com/acct/7")
	f := accountdir.New(dir)
	got, url, _, err := f.Account(t.Context(), "")
	if err != nil || !cert.SameKey(got.Public(), key.Public()) || url != "https://ca.example.com/acct/7" {
		t.Fatalf("%q %v", url, err)
	}
	if err := f.SetURL(t.Context(), "", "https://ca.example.com/acct/8", "a@example.com"); err != nil {
		t.Fatal(err)
	}
	var stored struct {
		Body map[string]any
		URI  string
	}
	text, err := os.ReadFile(filepath.Join(dir, "registration.json"))
	if err != nil || json.Unmarshal(text, &stored) != nil || stored.URI != "https://ca.example.com/acct/8" || stored.Body["status"] != "valid" || stored.Body["key"] == nil {
		t.Errorf("%s %v", text, err)
	}
	if err := f.SetURL(t.Context(), "", "", ""); err != nil { // the CA has lost it
		t.Fatal(err)
	}
	if _, url, _, err := f.Account(t.Context(), ""); url != "" || err != nil {
		t.Errorf("%q %v", url, err)
	}
}

// A damaged file is an error that names it and quotes no key. It is not replaced.
func TestDamaged(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"account.pem", "registration.json"} {
		dir, _ := write(t, "https://ca.example.com/acct/7")
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("{secret"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, _, _, err := accountdir.New(dir).Account(t.Context(), "")
		if err == nil || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", name, err)
		}
		if text, err := os.ReadFile(path); string(text) != "{secret" {
			t.Errorf("%s: %q %v", name, text, err)
		}
	}
}

// An account that ACMEMS registered issues without another registration, also if only its key
// is left (M49). A restart uses the same account.
func TestPebble(t *testing.T) {
	t.Parallel()
	ca := pebbletest.Start(t, pebbletest.Options{})
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca.ServerCAPEM)
	dir, _ := write(t, "")
	if err := os.Remove(filepath.Join(dir, "registration.json")); err != nil {
		t.Fatal(err)
	}
	// Nothing answers the challenge: the order shows that the account works.
	solver := challenge.FromMemory(acme.HTTP01, challenge.Memory{HTTP01: responder.New()})
	var urls []string
	for range 3 {
		pool, err := issuer.NewPool(issuer.PoolConfig{CAs: []issuer.CAConfig{{
			DirectoryURL: ca.DirectoryURL, Accounts: accountdir.New(dir), AcceptTOS: true, RootCAs: roots, UserAgent: "acmeproxy/test",
			Solvers: map[string]challenge.Solver{acme.HTTP01: solver},
		}}})
		if err != nil {
			t.Fatal(err)
		}
		_, err = pool.Issue(context.WithoutCancel(t.Context()), cert.Request{Names: cert.Names{"a.example.com"}, KeyType: cert.EC256}, nil)
		var failed *acme.Error
		if !errors.As(err, &failed) || !failed.Ordered {
			t.Errorf("%v", err)
		}
		pool.Close()
		_, url, _, err := accountdir.New(dir).Account(t.Context(), "")
		if err != nil || url == "" {
			t.Fatalf("%q %v", url, err)
		}
		if urls = append(urls, url); len(urls) == 2 {
			os.Remove(filepath.Join(dir, "registration.json")) // the key is known to the CA
		}
	}
	if urls[0] != urls[1] || urls[1] != urls[2] {
		t.Error(urls)
	}
}

func ExampleNew() {
	var accounts issuer.Accounts = accountdir.New("/etc/acmems/account")
	_ = issuer.CAConfig{DirectoryURL: "https://acme-v02.api.letsencrypt.org/directory", Accounts: accounts}
}
