package proxytest

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/auth"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/frontend/admin"
	"github.com/acmeproxy/acmeproxy/pkg/remote"
)

// WantStatus checks that err is a problem with this status.
func WantStatus(t testing.TB, what string, err error, status int) {
	t.Helper()
	var p *api.Problem
	if !errors.As(err, &p) || p.Status != status {
		t.Errorf("%s: %v, want a %d problem", what, err, status)
	}
}

// NewToken creates another enrolment token for a client.
func (p *Proxy) NewToken(t testing.TB, name string, req admin.NewToken) auth.EnrollToken {
	t.Helper()
	req.URL = p.URL
	answer, err := p.Admin.NewToken(t.Context(), name, req)
	if err != nil {
		t.Fatal(err)
	}
	token, err := auth.ParseEnrollToken(answer.EnrollToken)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// environment is that of the test.
func environment() remote.Environment {
	return remote.Environment{Getenv: os.Getenv, Environ: os.Environ()}
}

// EnrollHost tries to enrol a new host.
func EnrollHost(t testing.TB, token auth.EnrollToken) (*remote.State, error) {
	t.Helper()
	return remote.Enroll(t.Context(), t.TempDir(), "test", token, remote.EnrollOptions{Environment: environment()})
}

// Refusals returns the refused entries of the audit trail, the oldest first.
func (p *Proxy) Refusals(t testing.TB) []admin.AuditEntry {
	t.Helper()
	page, err := p.Admin.Audit(t.Context(), admin.AuditQuery{Outcome: "refused"})
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(page.Entries)
	return page.Entries
}

// Audited counts a client's audit entries with this action and outcome.
func (p *Proxy) Audited(t testing.TB, client, action, outcome string) (n int) {
	t.Helper()
	page, err := p.Admin.Audit(t.Context(), admin.AuditQuery{Client: client, Outcome: outcome})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range page.Entries {
		if e.Action == action {
			n++
		}
	}
	return n
}

// Own returns the certificate of acme-client mode for one name, from the proxy's
// status, or an empty one.
func (p *Proxy) Own(t testing.TB, name string) (c admin.Certificate) {
	t.Helper()
	status, err := p.Admin.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(status.Certificates, func(c admin.Certificate) bool { return slices.Contains(c.Names, name) })
	if i >= 0 {
		c = status.Certificates[i]
	}
	return c
}

// Orders counts the orders that the CA has seen.
func (p *Proxy) Orders() int { return p.CA.Requests().Count(pebbletest.NewOrder) }

// EnrollAgain enrols with the existing key of a host.
func EnrollAgain(t testing.TB, host *remote.State, token auth.EnrollToken) (api.Client, error) {
	t.Helper()
	client, err := host.API()
	if err != nil {
		t.Fatal(err)
	}
	_, recipient := NewIdentity(t)
	return client.Enroll(t.Context(), token, []string{recipient})
}

// Apply changes the clients as the request says.
func (p *Proxy) Apply(t testing.TB, req admin.ApplyRequest) admin.ApplyAnswer {
	t.Helper()
	answer, err := p.Admin.Apply(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// Spec describes a client with a grant for agent mode.
func Spec(name string, patterns ...string) admin.ClientSpec {
	return admin.ClientSpec{Name: name, Grants: []clients.Grant{Grant(clients.ModeAgent, patterns...)}}
}

// ShareIdentity gives the data directory of a second instance the identity of the
// first, as its administrator does.
func ShareIdentity(t testing.TB, from, to string) {
	t.Helper()
	const name = "identity.age"
	data, err := os.ReadFile(filepath.Join(from, name))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(to, name), data, 0o600); err != nil {
		t.Fatal(err)
	}
}
