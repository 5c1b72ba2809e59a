package e2e

import (
	"context"
	"encoding/base64"
	"testing"

	"github.com/cert-manager/cert-manager/third_party/forked/acme"
)

// certManager is the ACME package of cert-manager, a fork of golang.org/x/crypto/acme. The
// calls and their order are those of cert-manager's controllers.
type certManager struct {
	*site
	acme    *acme.Client
	answers *answers
}

func startCertManager(t *testing.T, s *site) client {
	key, err := newKey()
	if err != nil {
		t.Fatal(err)
	}
	c := certManager{s, &acme.Client{Key: key, DirectoryURL: s.directory, HTTPClient: s.http(t)}, &answers{}}
	s.serve(t, c.answers)
	return c
}

func (c certManager) register(ctx context.Context) error {
	account := &acme.Account{Contact: []string{"mailto:admin@example.com"}}
	if c.kid != "" {
		hmac, err := base64.RawURLEncoding.DecodeString(c.hmac)
		if err != nil {
			return err
		}
		account.ExternalAccountBinding = &acme.ExternalAccountBinding{KID: c.kid, Key: hmac}
	}
	if _, err := c.acme.Register(ctx, account, acme.AcceptTOS); err != nil {
		return err
	}
	account, err := c.acme.GetReg(ctx, "")
	if err != nil {
		return err
	}
	account.Contact = []string{"mailto:other@example.com"}
	_, err = c.acme.UpdateReg(ctx, account)
	return err
}

func (c certManager) issue(ctx context.Context, names ...string) ([]*certificate, error) {
	order, err := c.acme.AuthorizeOrder(ctx, acme.DomainIDs(names...))
	if err != nil {
		return nil, err
	}
	for _, url := range order.AuthzURLs {
		if err := c.authorize(ctx, url); err != nil {
			return nil, err
		}
	}
	if order, err = c.acme.GetOrder(ctx, order.URI); err != nil {
		return nil, err
	}
	csr, key, err := newRequest(names)
	if err != nil {
		return nil, err
	}
	_, url, err := c.acme.CreateOrderCert(ctx, order.FinalizeURL, csr, true)
	if err != nil {
		return nil, err
	}
	if _, err := c.acme.ListCertAlternates(ctx, url); err != nil {
		return nil, err
	}
	chain, err := c.acme.FetchCert(ctx, url, true)
	if err != nil {
		return nil, err
	}
	cert, err := fromDER(chain, key)
	return []*certificate{cert}, err
}

// authorize answers a challenge unless the authorization is valid.
func (c certManager) authorize(ctx context.Context, url string) error {
	authz, err := c.acme.GetAuthorization(ctx, url)
	if err != nil || authz.Status == acme.StatusValid {
		return err
	}
	for _, challenge := range authz.Challenges {
		if challenge.Type != "http-01" {
			continue
		}
		answer, err := c.acme.HTTP01ChallengeResponse(challenge.Token)
		if err != nil {
			return err
		}
		c.answers.set(c.acme.HTTP01ChallengePath(challenge.Token), answer)
		if _, err := c.acme.Accept(ctx, challenge); err != nil {
			return err
		}
	}
	_, err = c.acme.WaitAuthorization(ctx, url)
	return err
}

func (c certManager) renew(ctx context.Context, names ...string) ([]*certificate, error) {
	return c.issue(ctx, names...)
}

func (c certManager) revoke(ctx context.Context, cert *certificate) error {
	return c.acme.RevokeCert(ctx, nil, cert.leaf.Raw, acme.CRLReasonSuperseded)
}

func (c certManager) rollover(ctx context.Context) error {
	key, err := newKey()
	if err != nil {
		return err
	}
	return c.acme.AccountKeyRollover(ctx, key)
}
