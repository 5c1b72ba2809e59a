package agent_test

import (
	"database/sql"
	"path/filepath"
	"strings"
	"testing"

	"github.com/acmeproxy/acmeproxy/internal/sshtest"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/frontend/admin"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
)

// A recipient with a large RSA key that an older program stored is sealed to as
// before, with a warning in the log and in clients show; no other client gets such
// a key (X9).
func TestLargeStoredRecipient(t *testing.T) {
	t.Parallel()
	p := proxytest.Start(t, proxytest.Options{})
	id, own := proxytest.NewIdentity(t)
	grant := proxytest.Grant(clients.ModeAgent, "*.example.com")
	c := p.NewCaller(t, "web1", []string{own}, grant)
	large := sshtest.RSALine(t, 8192)
	db, err := sql.Open("sqlite", "file:"+filepath.Join(p.DataDir, "acmeproxy.db")+"?_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), "UPDATE clients SET recipients = recipients || char(10) || $1", large+" root@old"); err != nil {
		t.Fatal(err)
	}

	m := c.Register(t, "a.example.com")
	bundle := c.Bundle(t, m.ID, "")
	if b := proxytest.OpenBundle(t, bundle.Body, proxytest.Names(t, "a.example.com"), id); b.Key == nil || !strings.Contains(string(bundle.Body), "-> ssh-rsa ") {
		t.Error("the bundle is not sealed to both")
	}
	if log := p.Log(); !strings.Contains(log, "large RSA key of a recipient") || !strings.Contains(log, "client=web1 bits=8192 limit=4096") {
		t.Error("no warning in the log")
	}
	shown, err := p.Admin.Client(t.Context(), "web1")
	if err != nil {
		t.Fatal(err)
	}
	if w := shown.Warnings; len(w) != 1 || !strings.Contains(w[0], "recipient 2: its RSA key of 8192 bits") {
		t.Errorf("warnings %q", w)
	}
	// The file that configuration management applies every day still works.
	apply := func(name, recipient string) (admin.ApplyAnswer, error) {
		return p.Admin.Apply(t.Context(), admin.ApplyRequest{Clients: []admin.ClientSpec{{Name: name, Recipients: []string{recipient}, Grants: []clients.Grant{grant}}}})
	}
	if _, err := apply("web1", large); err != nil {
		t.Error(err)
	}
	again, err := apply("web1", large+" with another comment")
	if err != nil || again.Unchanged != 1 {
		t.Errorf("%+v, %v", again, err)
	}
	p.NewToken(t, "web1", admin.NewToken{Replace: true, Recipients: []string{large}})

	refused := map[string]error{}
	_, refused["apply, another key"] = apply("web1", sshtest.RSALine(t, 8192))
	_, refused["apply, a new client"] = apply("web2", large)
	_, refused["add"] = p.Admin.AddClient(t.Context(), admin.NewClient{Name: "web3", Grants: []clients.Grant{grant}, Recipients: []string{large}, Bearer: true})
	_, refused["token"] = p.Admin.NewToken(t.Context(), "web1", admin.NewToken{Secret: admin.Secret{URL: p.URL}, Replace: true, Recipients: []string{sshtest.RSALine(t, 4104)}})
	for name, err := range refused {
		if err == nil || !strings.Contains(err.Error(), "use ssh-ed25519, age1… or RSA of at most 4096 bits") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
