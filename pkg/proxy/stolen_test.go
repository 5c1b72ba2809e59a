package proxy_test

import (
	"context"
	"encoding/pem"
	"path/filepath"
	"strings"
	"testing"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
	"github.com/acmeproxy/acmeproxy/pkg/seal"
	"github.com/acmeproxy/acmeproxy/pkg/store"
)

// A stolen SQLite database or backup, without identity.age, reveals no key and no
// bundle, and has nothing of the gateway (X17, A10, A11, A14).
func TestStolenDatabase(t *testing.T) {
	t.Parallel()
	p, bundles := threeModes(t, "")
	died := database(t, p.DataDir) // with what is still in the write-ahead log
	p.Stop(t)
	stopped := database(t, p.DataDir)
	secrets := ownSecrets(t, p, store.Config{Path: filepath.Join(p.DataDir, "acmeproxy.db")})
	checkStolen(t, died, bundles, secrets)
	checkStolen(t, stopped, bundles, secrets)
}

// database returns the SQLite file and those beside it.
func database(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	files := proxytest.Walk(t, dir)
	for path := range files {
		if !strings.HasPrefix(filepath.Base(path), "acmeproxy.db") {
			delete(files, path)
		}
	}
	return files
}

// ownSecrets returns the proxy's plaintext keys by their description: its account key
// at the CA, and the one that remotes pin. Only its identity opens them.
func ownSecrets(t testing.TB, p *proxytest.Proxy, at store.Config) map[string][]byte {
	t.Helper()
	s, err := store.Open(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	account, err := s.AccountByDirectory(context.Background(), p.CA.DirectoryURL)
	if err != nil {
		t.Fatal(err)
	}
	pinned, err := s.Secret(context.Background(), "api-key")
	if err != nil {
		t.Fatal(err)
	}
	id, err := seal.LoadOrCreateIdentity(filepath.Join(p.DataDir, "identity.age"))
	if err != nil {
		t.Fatal(err)
	}
	stranger, _ := proxytest.NewIdentity(t)
	secrets := map[string][]byte{}
	for what, sealed := range map[string][]byte{"account": account.SealedKey, "pinned": pinned} {
		plain, err := seal.Open(sealed, id)
		if block, _ := pem.Decode(plain); err != nil || block == nil {
			t.Fatalf("%s: %v; want a key in PEM", what, err)
		}
		if _, err := seal.Open(sealed, stranger); err == nil {
			t.Errorf("%s: a stranger's identity opens it", what)
		}
		secrets[what] = plain
	}
	return secrets
}

// checkStolen searches a database for secrets, after checking that the search finds
// what is there.
func checkStolen(t testing.TB, dump map[string][]byte, bundles map[clients.Mode]*cert.Bundle, keys map[string][]byte) {
	t.Helper()
	control, secrets := proxytest.Traces{}, proxytest.Traces{}
	control.Add("serial of agent mode", bundles[clients.ModeAgent].Serial())
	control.Add("serial of client mode", bundles[clients.ModeClient].Serial())
	seen := map[string]bool{}
	for _, found := range control.In(dump) {
		what, _, _ := strings.Cut(found, " in ")
		seen[what] = true
	}
	if len(seen) != len(control) {
		t.Errorf("the search finds only %v", seen)
	}
	secrets.Add("a key", "PRIVATE KEY")
	secrets.Add("a certificate", "BEGIN CERTIFICATE")
	secrets.Add("gateway's name", "web."+string(clients.ModeGateway)+".example.com")
	secrets.Certificate(t, "gateway", bundles[clients.ModeGateway])
	for _, mode := range []clients.Mode{clients.ModeClient, clients.ModeAgent} {
		key, err := bundles[mode].KeyPEM()
		if err != nil {
			t.Fatal(err)
		}
		keys[string(mode)] = key
	}
	for what, key := range keys {
		secrets.Lines(what, key)
		block, _ := pem.Decode(key)
		secrets[what+", DER"] = block.Bytes
	}
	for _, found := range secrets.In(dump) {
		t.Error(found)
	}
}
