package relay_test

import (
	"slices"
	"testing"

	xacme "golang.org/x/crypto/acme"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/frontend/admin"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
)

// After a key change, the old key of an account that was registered by its thumbprint is
// worth nothing. The new one registers, and the audit trail names it (C18, X25).
func TestKeyChange(t *testing.T) {
	t.Parallel()
	p := start(t, proxytest.Options{})
	binding := p.ACMECredential(t, "web1", proxytest.Grant(clients.ModeACME, "*.example.com"))
	p.ACMECredential(t, "web2", proxytest.Grant(clients.ModeACME, "*.example.com"))
	thumbprint := func(key any) string {
		t.Helper()
		text, err := xacme.JWKThumbprint(key)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	leaked, fresh, foreign := proxytest.NewKey(t), proxytest.NewKey(t), proxytest.NewKey(t)
	byKey := p.NewACME(t, "web1", admin.NewACME{Kind: clients.ACMEKey, Thumbprint: thumbprint(leaked.Public())})
	p.NewACME(t, "web2", admin.NewACME{Kind: clients.ACMEKey, Thumbprint: thumbprint(foreign.Public())})
	a, err := p.TryACMEAccount(t, byKey, leaked)
	if err != nil {
		t.Fatal(err)
	}
	wantProblem(t, "a key of another client", a.AccountKeyRollover(t.Context(), foreign), acme.Unauthorized, "registered for another client")
	if err := a.AccountKeyRollover(t.Context(), fresh); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Order(t.Context(), "a.example.com"); err != nil {
		t.Errorf("the account after the change: %v", err)
	}
	_, err = p.TryACMEAccount(t, byKey, leaked)
	wantProblem(t, "the old key", err, acme.Unauthorized, thumbprint(leaked.Public()))
	if err := a.DeactivateReg(t.Context()); err != nil {
		t.Fatal(err)
	}
	show, err := p.Admin.Client(t.Context(), "web1")
	if err != nil {
		t.Fatal(err)
	}
	var registered []string
	for _, c := range show.Credentials {
		if c.Thumbprint != "" {
			registered = append(registered, c.Thumbprint)
		}
	}
	if want := []string{thumbprint(fresh.Public())}; !slices.Equal(registered, want) {
		t.Errorf("the client has the thumbprints %q, want %q", registered, want)
	}

	// A change of an account with a binding is audited, too.
	other := p.NewACMEAccount(t, binding)
	last := proxytest.NewKey(t)
	if err := other.AccountKeyRollover(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	page, err := p.Admin.Audit(t.Context(), admin.AuditQuery{Client: "web1"})
	if err != nil {
		t.Fatal(err)
	}
	var details []string
	for _, e := range page.Entries {
		if e.Action == "acme key change" && e.Addr == "127.0.0.1" {
			details = append(details, e.Outcome+" "+e.Detail)
		}
	}
	want := map[string]bool{
		"allowed thumbprint " + thumbprint(fresh.Public()): true, "allowed thumbprint " + thumbprint(last.Public()): true,
		"refused thumbprint " + thumbprint(foreign.Public()) + " is registered for another client": true,
	}
	if len(details) != 3 || !want[details[0]] || !want[details[1]] || !want[details[2]] {
		t.Errorf("audited: %q", details)
	}
}
