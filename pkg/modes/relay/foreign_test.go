package relay_test

import (
	"strings"
	"testing"

	xacme "golang.org/x/crypto/acme"

	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/frontend/admin"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
)

// A client may revoke another client's certificate while it is granted all its names, and
// the audit trail names the client that asked. When the grant ends, the authorizations of
// its orders count no more (X1, C18).
func TestRevokeForeign(t *testing.T) {
	t.Parallel()
	p := start(t, proxytest.Options{})
	alice := p.NewACMEAccount(t, p.ACMECredential(t, "alice", proxytest.Grant(clients.ModeACME, "shared.example.com")))
	bob := p.NewACMEAccount(t, p.ACMECredential(t, "bob", proxytest.Grant(clients.ModeACME, "shared.example.com")))
	first, err := alice.Obtain(t, "shared.example.com")
	if err != nil {
		t.Fatal(err)
	}
	newOrder(t, bob, "shared.example.com")
	if err := bob.RevokeCert(t.Context(), nil, first[0], xacme.CRLReasonSuperseded); err != nil {
		t.Errorf("with a grant: %v", err)
	}
	second, err := alice.Obtain(t, "shared.example.com")
	if err != nil {
		t.Fatal(err)
	}
	p.Apply(t, admin.ApplyRequest{Clients: []admin.ClientSpec{{
		Name: "bob", Grants: []clients.Grant{proxytest.Grant(clients.ModeACME, "other.example.com")},
	}}})
	err = bob.RevokeCert(t.Context(), nil, second[0], xacme.CRLReasonKeyCompromise)
	if err == nil || !strings.Contains(err.Error(), "not granted") {
		t.Errorf("without a grant: %v", err)
	}
	if reason, revoked := p.CA.Revoked(leaf(t, second).SerialNumber); revoked {
		t.Errorf("it is revoked, reason %v", reason)
	}
	page, err := p.Admin.Audit(t.Context(), admin.AuditQuery{})
	if err != nil {
		t.Fatal(err)
	}
	var who []string
	for _, e := range page.Entries {
		if e.Action == "revoke" {
			who = append(who, e.Client+" "+e.Outcome)
		}
	}
	if strings.Contains(strings.Join(who, ","), "alice") || len(who) == 0 {
		t.Errorf("entries %q", who)
	}
}

// No client gets a certificate for the proxy's own name, whatever its grants cover (X1).
func TestOwnName(t *testing.T) {
	t.Parallel()
	p := start(t, proxytest.Options{})
	_, parent, _ := strings.Cut(proxytest.ACMEName, ".")
	a := p.NewACMEAccount(t, p.ACMECredential(t, "web1", proxytest.Grant(clients.ModeACME, "*."+parent)))
	newOrder(t, a, "other."+parent)
	if _, err := a.Order(t.Context(), "other."+parent, proxytest.ACMEName); err == nil || !strings.Contains(err.Error(), "the proxy itself") {
		t.Errorf("order for the proxy's name: %v", err)
	}
}
