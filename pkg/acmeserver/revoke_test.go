package acmeserver_test

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"net/http"
	"testing"

	"github.com/acmeproxy/acmeproxy/internal/rawacme"
	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
)

// revoke asks for a revocation, signed by the account.
func (c *caller) revoke(leaf *x509.Certificate, reason int) *labReply {
	c.l.Helper()
	return c.send(c.l.cfg.URL+"/revoke-cert", rawacme.Fields{"certificate": rawacme.B64(leaf.Raw), "reason": reason})
}

// revokeBy asks for a revocation, signed by a key without an account.
func (c *caller) revokeBy(key crypto.Signer, leaf *x509.Certificate) *labReply {
	c.l.Helper()
	return c.sendBy(c.l.Context(), rawacme.Fields{"jwk": rawacme.JWK(key.Public())}, key, c.l.cfg.URL+"/revoke-cert",
		rawacme.Fields{"certificate": rawacme.B64(leaf.Raw)})
}

// issue returns a new certificate of the account.
func (c *caller) issue(key crypto.Signer, names ...string) *x509.Certificate {
	c.l.Helper()
	return c.download(c.finalize(c.newOrder(names...), key).want(http.StatusOK).order().is(c.l, acmeserver.StatusValid))
}

func TestRevoke(t *testing.T) { // C18
	inLab(t, nil, func(l *lab) {
		s := l.start()
		c, other := l.account(s), l.account(s)
		key := rawacme.NewKey()

		leaf := c.issue(key, "a.example.com", "*.example.com")
		for _, reason := range []int{-1, 2, 6, 7, 8, 10, 11} {
			c.revoke(leaf, reason).refused(acme.BadRevocationReason, http.StatusBadRequest)
		}
		other.revoke(leaf, 0).refused(acme.Unauthorized, http.StatusForbidden)
		c.revokeBy(other.key, leaf).refused(acme.Unauthorized, http.StatusForbidden)
		if r := c.revoke(leaf, 4).want(http.StatusOK); r.Body.Len() != 0 {
			l.Errorf("body %q", r.Body)
		}
		if got := l.ca.revoked; len(got) != 1 || got[0].Reason != 4 || got[0].OrderID == "" || len(got[0].Identifiers) != 2 {
			l.Errorf("revoked %+v", got)
		}
		c.revoke(leaf, 4).refused(acme.AlreadyRevoked, http.StatusBadRequest)
		other.revoke(leaf, 4).refused(acme.Unauthorized, http.StatusForbidden)

		// By an account that is authorized for all names, wildcards included.
		leaf = c.issue(key, "a.example.com", "*.example.com")
		other.newOrder("a.example.com", "example.com")
		other.revoke(leaf, 0).refused(acme.Unauthorized, http.StatusForbidden)
		o := other.newOrder("*.example.com")
		other.send(o.Authorizations[0], rawacme.Fields{"status": "deactivated"}).want(http.StatusOK)
		other.revoke(leaf, 0).refused(acme.Unauthorized, http.StatusForbidden)
		other.newOrder("*.example.com")
		other.revoke(leaf, 0).want(http.StatusOK)

		// By the certificate's key.
		leaf = c.issue(key, "a.example.com")
		other.revokeBy(key, leaf).want(http.StatusOK)
		other.revokeBy(key, leaf).refused(acme.AlreadyRevoked, http.StatusBadRequest)
	})
}

// The issuer may know certificates that the storage does not.
func TestRevokeUnknownCertificate(t *testing.T) {
	inLab(t, nil, func(l *lab) {
		c := l.account(l.start())
		key := rawacme.NewKey()
		bundle, err := cert.ParseBundle(l.ca.sign(key.Public(), "a.example.com").Chain)
		if err != nil {
			l.Fatal(err)
		}
		c.newOrder("a.example.com") // authorizes the account
		c.revoke(bundle.Leaf, 0).refused(acme.Malformed, http.StatusNotFound)
		c.revokeBy(key, bundle.Leaf).want(http.StatusOK)
		if got := l.ca.revoked; len(got) != 1 || got[0].Fingerprint == "" || got[0].ARIID == "" || got[0].KeyHash == "" {
			l.Errorf("revoked %+v", got)
		}
	})
}

func TestRefusedRevocations(t *testing.T) {
	inLab(t, nil, func(l *lab) {
		c := l.account(l.start())
		for _, text := range []string{"", "AAAA", "+/+/", rawacme.B64(l.ca.root.Raw) + "AAAA"} {
			c.send(l.cfg.URL+"/revoke-cert", rawacme.Fields{"certificate": text}).refused(acme.Malformed, http.StatusBadRequest)
		}
		c.send(l.cfg.URL+"/revoke-cert", nil).refused(acme.Malformed, http.StatusBadRequest)
	})
	// An issuer that refuses, and one that cannot.
	inLab(t, func(c *acmeserver.Config) { c.Issuer = stubborn{c.Issuer} }, func(l *lab) {
		c := l.account(l.start())
		key := rawacme.NewKey()
		leaf := c.issue(key, "a.example.com")
		c.revoke(leaf, 0).refused(acme.Unauthorized, http.StatusForbidden)
		c.revoke(leaf, 1).refused(acme.ServerInternal, http.StatusInternalServerError)
		c.at.SetIssuer(struct{ acmeserver.Issuer }{l.ca})
		c.revoke(leaf, 0).refused(acme.Unauthorized, http.StatusForbidden)
		c.at.SetIssuer(l.ca) // nothing was recorded
		c.revoke(leaf, 0).want(http.StatusOK)
	})
}

// stubborn is an issuer that does not revoke.
type stubborn struct{ acmeserver.Issuer }

func (stubborn) Revoke(_ context.Context, r acmeserver.RevokeRequest) error {
	reason := r.Reason
	if reason == 1 {
		return errors.New("the upstream CA cannot be reached")
	}
	return &acme.Problem{Type: acme.Unauthorized, Detail: "not this one"}
}
