package agent_test

import (
	"bytes"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
	"filippo.io/age/agessh"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/cert/certfile"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
	"github.com/acmeproxy/acmeproxy/pkg/remote"
	"github.com/acmeproxy/acmeproxy/pkg/seal"
)

// A client whose only key is its SSH host key opens its bundle with that, and a remote
// enrols with it (X8).
func TestAgentSSHRecipient(t *testing.T) {
	t.Parallel()
	p := proxytest.Start(t, proxytest.Options{})
	line, file := proxytest.SSHKey(t)
	c := p.NewCaller(t, "web1", []string{line}, proxytest.Grant(clients.ModeAgent, "*.web1.example.com"))
	m := c.Register(t, "a.web1.example.com")
	pem, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	id, err := agessh.ParseIdentity(pem)
	if err != nil {
		t.Fatal(err)
	}
	bundle := c.Bundle(t, m.ID, "")
	if b := proxytest.OpenBundle(t, bundle.Body, proxytest.Names(t, "a.web1.example.com"), id); b.Key == nil {
		t.Error("no key")
	}
	if bytes.Contains(bundle.Body, []byte("-> X25519")) {
		t.Error("the bundle is sealed to an X25519 recipient, too")
	}

	_, file = proxytest.SSHKey(t)
	token := p.AddClient(t, "web2", proxytest.Grant(clients.ModeAgent, "*.web2.example.com"))
	dir := t.TempDir()
	host, err := remote.Enroll(t.Context(), dir, "test", token, remote.EnrollOptions{Identity: file})
	if err != nil {
		t.Fatal(err)
	}
	k, err := proxytest.Get(t, host, clients.ModeAgent, "a.web2.example.com")
	if err != nil {
		t.Fatal(err)
	}
	if b, err := certfile.Read(k.Out); err != nil || b.Serial() != k.Serial {
		t.Errorf("installed %v, %v", b, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "identity.age")); err == nil {
		t.Error("an age identity was generated, too")
	}
}

// Ten load balancers share a name and open one bundle, each with its own identity.
// No other identity opens it, the proxy's included (X9, A10).
func TestAgentSeveralRecipients(t *testing.T) {
	t.Parallel()
	p := proxytest.Start(t, proxytest.Options{})
	var ids []age.Identity
	var recipients []string
	for range 10 {
		id, recipient := proxytest.NewIdentity(t)
		ids, recipients = append(ids, id), append(recipients, recipient)
	}
	c := p.NewCaller(t, "lb", recipients, proxytest.Grant(clients.ModeAgent, "*.example.com"))
	m := c.Register(t, "www.example.com")
	bundle := c.Bundle(t, m.ID, "").Body
	for _, id := range ids {
		proxytest.OpenBundle(t, bundle, proxytest.Names(t, "www.example.com"), id)
	}
	stranger, _ := proxytest.NewIdentity(t)
	own, err := seal.LoadOrCreateIdentity(filepath.Join(p.DataDir, "identity.age"))
	if err != nil {
		t.Fatal(err)
	}
	for who, id := range map[string]age.Identity{"a stranger": stranger, "the proxy": own} {
		if _, err := seal.Open(bundle, id); err == nil {
			t.Errorf("%s opens the bundle", who)
		}
	}
}

// A stock age opens what the proxy sends, with no acmeproxy around (A10).
func TestAgentStockAge(t *testing.T) {
	t.Parallel()
	age := pebbletest.Tool(t, "age")
	p := proxytest.Start(t, proxytest.Options{})
	id, recipient := proxytest.NewIdentity(t)
	line, sshFile := proxytest.SSHKey(t)
	ageFile := filepath.Join(t.TempDir(), "identity")
	if err := os.WriteFile(ageFile, []byte(id.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := p.NewCaller(t, "web1", []string{recipient, line}, proxytest.Grant(clients.ModeAgent, "*.example.com"))
	m := c.Register(t, "a.example.com")
	bundle := c.Bundle(t, m.ID, "").Body
	for _, file := range []string{ageFile, sshFile} {
		cmd := exec.CommandContext(t.Context(), age, "-d", "-i", file)
		cmd.Stdin = bytes.NewReader(bundle)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		plain, err := cmd.Output()
		if err != nil {
			t.Errorf("age -d -i %s: %v: %s", filepath.Base(file), err, &stderr)
			continue
		}
		if b, err := cert.ParseBundle(plain); err != nil || b.Key == nil || b.Serial() != c.Certificate(t, m.ID).Serial {
			t.Errorf("age -d -i %s: %v, %v", filepath.Base(file), b, err)
		}
	}
}

// A client without recipients gets an error before an order exists.
func TestAgentWithoutRecipient(t *testing.T) {
	t.Parallel()
	p := proxytest.Start(t, proxytest.Options{})
	c := p.NewCaller(t, "web1", nil, proxytest.Grant(clients.ModeAgent, "*.example.com"))
	r := c.Do(t, http.MethodPost, api.PathCertificates, api.CertificateRequest{Mode: clients.ModeAgent, Names: []string{"a.example.com"}})
	if r.Status != http.StatusUnprocessableEntity || !strings.Contains(r.Problem(t).Detail, "--recipient") {
		t.Errorf("%d %s; want 422 with the remedy", r.Status, r.Body)
	}
	if n := p.CA.Requests().Total(); n != 0 {
		t.Errorf("%d requests reached the CA", n)
	}
}
