//go:build unix

package rest_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/sshtest"
	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/auth"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/frontend/admin"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
)

func sshKeys(t testing.TB, n, bits int) (lines []string) {
	for range n {
		lines = append(lines, sshtest.RSALine(t, bits))
	}
	return lines
}

// cpu returns the time that this process computes while do runs.
func cpu(t *testing.T, do func()) time.Duration {
	t.Helper()
	var before, after syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &before); err != nil {
		t.Fatal(err)
	}
	do()
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &after); err != nil {
		t.Fatal(err)
	}
	total := func(r syscall.Rusage) time.Duration { return time.Duration(r.Utime.Nano() + r.Stime.Nano()) }
	return total(after) - total(before)
}

// No costly work is done before the secret of an enrolment is verified (X41). The answer
// is about the secret, with any recipients, and a body that is too large is not read. The figures are for docs/security.md.
func TestStrangersEnrolment(t *testing.T) {
	p := proxytest.Start(t, proxytest.Options{})
	c := newCaller(t, p, "h2", "")
	unknown := make([]byte, 16)
	for _, a := range []struct {
		name       string
		recipients []string
		status     int
	}{
		{"one bad recipient", []string{"bad"}, http.StatusUnauthorized},
		{"62 RSA keys of 16384 bits", sshKeys(t, 62, 16384), http.StatusRequestEntityTooLarge},
		{"11 RSA keys of 16384 bits", sshKeys(t, 11, 16384), http.StatusUnauthorized},
		{"16 RSA keys of 4096 bits", sshKeys(t, 16, 4096), http.StatusUnauthorized},
		{"17 short ones", strings.Split(strings.Repeat("x ", 16)+"x", " "), http.StatusUnprocessableEntity},
	} {
		body := enrolBody(unknown, a.recipients...)
		var resp response
		spent := cpu(t, func() { resp = c.do(t, request{method: "POST", path: api.PathEnroll, body: body}) })
		if resp.status != a.status {
			t.Errorf("%s: %d %s; want %d", a.name, resp.status, resp.body, a.status)
		}
		t.Logf("%s, %d bytes: %v of CPU", a.name, len(body), spent)
	}
}

// A token is of use in the networks of the client's grants only; a try from
// elsewhere is audited and does not spend it (A21).
func TestEnrolFromElsewhere(t *testing.T) {
	t.Parallel()
	p := proxytest.Start(t, proxytest.Options{})
	grant := proxytest.Grant(clients.ModeAgent, "a.example.com")
	grant.Networks = []string{"192.0.2.0/24"}
	token := p.AddClient(t, "web1", grant)
	c := newCaller(t, p, "h2", "")
	body := enrolBody(token.Secret[:], recipient(t))
	g := attack(t, p)
	for range 2 {
		c.do(t, request{method: "POST", path: api.PathEnroll, body: body}).refused(t, "source", "", http.StatusForbidden)
	}
	// A host in the wrong network learns nothing about the recipients.
	c.do(t, request{method: "POST", path: api.PathEnroll, body: enrolBody(token.Secret[:], "bad")}).refused(t, "source", "", http.StatusForbidden)
	g.unmoved(t)
	trail, err := p.Admin.Audit(t.Context(), admin.AuditQuery{Client: "web1", Outcome: "refused"})
	if err != nil {
		t.Fatal(err)
	}
	if e := trail.Entries; len(e) != 3 || e[0].Action != "enroll" || !strings.HasPrefix(e[0].Addr, "127.") {
		t.Errorf("audit: %+v", e)
	}
	// One grant for this network is enough, and the token is still good.
	here := grant
	here.Networks = []string{"127.0.0.0/8"}
	if _, err := p.Admin.Apply(t.Context(), admin.ApplyRequest{Clients: []admin.ClientSpec{{Name: "web1", Grants: []clients.Grant{grant, here}}}}); err != nil {
		t.Fatal(err)
	}
	if resp := c.do(t, request{method: "POST", path: api.PathEnroll, body: body}); resp.status != http.StatusCreated {
		t.Errorf("%d %s", resp.status, resp.body)
	}
}

// Large RSA keys are refused where a client may bring a key of its own, and spend
// nothing; the same key with another comment is the same recipient (X9).
func TestRecipientsOfClients(t *testing.T) {
	t.Parallel()
	p := proxytest.Start(t, proxytest.Options{})
	token := p.AddClient(t, "web1", proxytest.Grant(clients.ModeAgent, "a.example.com"))
	c := newCaller(t, p, "h2", "")
	g := attack(t, p)
	c.do(t, request{method: "POST", path: api.PathEnroll, body: enrolBody(token.Secret[:], sshtest.RSALine(t, 4104))}).refused(t, "body.recipients", "AAAA", http.StatusUnprocessableEntity)
	g.unmoved(t)
	key, own := sshtest.RSALine(t, 4096), recipient(t)
	for _, comment := range []string{" root@web1", " other", ""} {
		resp := c.do(t, request{method: "POST", path: api.PathEnroll, body: enrolBody(token.Secret[:], own, key+comment)})
		var got api.Client
		if err := json.Unmarshal([]byte(resp.body), &got); err != nil || resp.status != http.StatusCreated {
			t.Fatalf("%d %s", resp.status, resp.body)
		}
		if !slices.Equal(got.Recipients, []string{own, key}) {
			t.Errorf("with comment %q: %q", comment, got.Recipients)
		}
	}
	next, err := cert.GenerateKey(cert.EC256)
	if err != nil {
		t.Fatal(err)
	}
	spki, proof, err := auth.ProveKey(next, auth.SPKIPin(c.key.Leaf))
	if err != nil {
		t.Fatal(err)
	}
	rekey := func(add, retire string) response {
		body := object("public_key", spki, "proof", proof, "recipients", []string{add}, "retire", []string{retire})
		return c.do(t, request{method: "POST", path: api.PathClientKey, body: body})
	}
	rekey(sshtest.RSALine(t, 8192), key).refused(t, "body.recipients", "AAAA", http.StatusUnprocessableEntity)
	resp := rekey(own, key+" of before")
	if resp.status != http.StatusOK || strings.Contains(resp.body, "ssh-rsa") {
		t.Errorf("%d %s", resp.status, resp.body)
	}
}
