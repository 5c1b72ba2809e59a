package e2e

import (
	"context"
	"crypto"
	"encoding/base64"
	"errors"
	"fmt"
	"testing"

	"golang.org/x/crypto/acme"
)

// cryptoClient is golang.org/x/crypto/acme.
type cryptoClient struct {
	*site
	acme    *acme.Client
	answers *answers
}

func startCrypto(t *testing.T, s *site) client {
	key, err := newKey()
	if err != nil {
		t.Fatal(err)
	}
	c := cryptoClient{s, &acme.Client{Key: key, DirectoryURL: s.directory, HTTPClient: s.http(t)}, &answers{}}
	s.serve(t, c.answers)
	return c
}

func (c cryptoClient) register(ctx context.Context) error {
	account := &acme.Account{Contact: []string{"mailto:admin@example.com"}}
	if c.kid != "" {
		hmac, err := base64.RawURLEncoding.DecodeString(c.hmac)
		if err != nil {
			return err
		}
		account.ExternalAccountBinding = &acme.ExternalAccountBinding{KID: c.kid, Key: hmac}
	}
	created, err := c.acme.Register(ctx, account, acme.AcceptTOS)
	if err != nil {
		return err
	}
	// A rebuilt host registers once more, and has the old account.
	again := &acme.Client{Key: c.acme.Key, DirectoryURL: c.directory, HTTPClient: c.acme.HTTPClient}
	if _, err := again.Register(ctx, account, acme.AcceptTOS); !errors.Is(err, acme.ErrAccountAlreadyExists) {
		return fmt.Errorf("registered again: %w", err)
	}
	if found, err := again.GetReg(ctx, ""); err != nil || found.URI != created.URI {
		return fmt.Errorf("the account is %+v: %w", found, err)
	}
	return nil
}

// issue uses CreateOrderCert, which fails if finalize answers without Location.
func (c cryptoClient) issue(ctx context.Context, names ...string) ([]*certificate, error) {
	order, err := c.acme.AuthorizeOrder(ctx, acme.DomainIDs(names...))
	if err != nil {
		return nil, err
	}
	if (order.Status == acme.StatusReady) == c.solves {
		return nil, fmt.Errorf("the new order is %s", order.Status)
	}
	for _, url := range order.AuthzURLs {
		if err := c.authorize(ctx, url); err != nil {
			return nil, err
		}
	}
	if order, err = c.acme.WaitOrder(ctx, order.URI); err != nil {
		return nil, err
	}
	csr, key, err := newRequest(names)
	if err != nil {
		return nil, err
	}
	chain, _, err := c.acme.CreateOrderCert(ctx, order.FinalizeURL, csr, true)
	if err != nil {
		return nil, err
	}
	cert, err := fromDER(chain, key)
	return []*certificate{cert}, err
}

// authorize answers a challenge. If the authorization is valid, it has one valid
// challenge with a token, of a type that clients know.
func (c cryptoClient) authorize(ctx context.Context, url string) error {
	authz, err := c.acme.GetAuthorization(ctx, url)
	if err != nil {
		return err
	}
	kind := "http-01"
	if authz.Wildcard {
		kind = "dns-01"
	}
	if len(authz.Challenges) != 1 || authz.Challenges[0].Type != kind || authz.Challenges[0].Token == "" {
		return fmt.Errorf("the challenges of %s are %+v", authz.Identifier.Value, authz.Challenges)
	}
	if !c.solves {
		if authz.Status != acme.StatusValid || authz.Challenges[0].Status != acme.StatusValid {
			return fmt.Errorf("the authorization is %+v", authz)
		}
		return nil
	}
	challenge := authz.Challenges[0]
	answer, err := c.acme.HTTP01ChallengeResponse(challenge.Token)
	if err != nil {
		return err
	}
	c.answers.set(c.acme.HTTP01ChallengePath(challenge.Token), answer)
	if _, err := c.acme.Accept(ctx, challenge); err != nil {
		return err
	}
	_, err = c.acme.WaitAuthorization(ctx, url)
	return err
}

func (c cryptoClient) renew(ctx context.Context, names ...string) ([]*certificate, error) {
	return c.issue(ctx, names...)
}

// revoke signs with the certificate's key and with no account.
func (c cryptoClient) revoke(ctx context.Context, cert *certificate) error {
	key, ok := cert.pair.PrivateKey.(crypto.Signer)
	if !ok {
		return errors.New("the key cannot sign")
	}
	stranger := &acme.Client{Key: key, DirectoryURL: c.directory, HTTPClient: c.acme.HTTPClient}
	return stranger.RevokeCert(ctx, stranger.Key, cert.leaf.Raw, acme.CRLReasonSuperseded)
}

func (c cryptoClient) rollover(ctx context.Context) error {
	key, err := newKey()
	if err != nil {
		return err
	}
	if err := c.acme.AccountKeyRollover(ctx, key); err != nil {
		return err
	}
	_, err = c.acme.GetReg(ctx, "")
	return err
}
