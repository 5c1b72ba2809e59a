package relay_test

import (
	"strings"
	"testing"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/frontend/admin"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
)

// Before a client is removed, all its certificates of the ACME door are revoked, also those
// of a credential that it has no more, and no others. A repetition finds what is left.
// Its accounts end (X4, X25).
func TestRemoveAndRevoke(t *testing.T) {
	t.Parallel()
	p := start(t, proxytest.Options{})
	a := p.NewACMEAccount(t, p.ACMECredential(t, "web1", proxytest.Grant(clients.ModeACME, "*.web1.example.com")))
	other := p.NewACMEAccount(t, p.ACMECredential(t, "web2", proxytest.Grant(clients.ModeACME, "*.web2.example.com")))
	obtain := func(a *proxytest.ACMEAccount, name string) [][]byte {
		t.Helper()
		chain, err := a.Obtain(t, name)
		if err != nil {
			t.Fatal(err)
		}
		return chain
	}
	first := obtain(a, "a.web1.example.com")
	kept := obtain(other, "a.web2.example.com")
	second := p.NewACMEAccount(t, p.NewACME(t, "web1", admin.NewACME{Kind: clients.ACMEBinding, Replace: true}))
	all := [][][]byte{first, obtain(second, "b.web1.example.com"), obtain(second, "c.web1.example.com")}
	if err := second.RevokeCert(t.Context(), nil, all[2][0], 4); err != nil {
		t.Fatal(err)
	}
	revoke := func() (serials []string) {
		t.Helper()
		if err := p.Admin.RevokeClient(t.Context(), "web1", "keyCompromise", func(r admin.Revoked) {
			if r.Error != "" {
				t.Errorf("%s: %s", r.Names, r.Error)
			}
			serials = append(serials, r.Serial)
		}); err != nil {
			t.Fatal(err)
		}
		return serials
	}
	if done := revoke(); len(done) != 2 || done[0] == "" {
		t.Errorf("revoked %q, want two", done)
	}
	if done := revoke(); len(done) != 0 {
		t.Errorf("revoked once more: %q", done)
	}
	for i, want := range []int{1, 1, 4} {
		if reason, revoked := p.CA.Revoked(leaf(t, all[i]).SerialNumber); !revoked || int(reason) != want {
			t.Errorf("certificate %d: revoked is %v, reason %d", i, revoked, reason)
		}
	}
	if _, revoked := p.CA.Revoked(leaf(t, kept).SerialNumber); revoked {
		t.Error("a certificate of another client is revoked")
	}
	if n := p.Audited(t, "web1", "revoke", "done"); n != 3 {
		t.Errorf("%d revocations are audited", n)
	}
	if _, err := p.Admin.RemoveClient(t.Context(), "web1"); err != nil {
		t.Fatal(err)
	}
	_, err := second.Order(t.Context(), "b.web1.example.com")
	if e := wantProblem(t, "after the removal", err, acme.Unauthorized); !strings.Contains(e.Detail, "the account is deactivated") {
		t.Errorf("after the removal: %v", e)
	}
	obtain(other, "b.web2.example.com")
}
