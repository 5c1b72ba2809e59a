package e2e

import (
	"context"
	"crypto/x509"
	"errors"
	"testing"

	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"
)

// acmezClient is github.com/mholt/acmez.
type acmezClient struct {
	*site
	acmez   acmez.Client
	account acme.Account
	last    map[string]*certificate // by the first name
}

func startAcmez(t *testing.T, s *site) client {
	key, err := newKey()
	if err != nil {
		t.Fatal(err)
	}
	a := &acmezClient{site: s, last: make(map[string]*certificate)}
	a.account = acme.Account{Contact: []string{"mailto:admin@example.com"}, TermsOfServiceAgreed: true, PrivateKey: key}
	a.acmez.Client = &acme.Client{Directory: s.directory, HTTPClient: s.http(t)}
	solver := &acmezSolver{}
	a.acmez.ChallengeSolvers = map[string]acmez.Solver{
		acme.ChallengeTypeHTTP01: noSolver{}, acme.ChallengeTypeDNS01: noSolver{},
	}
	if s.solves {
		a.acmez.ChallengeSolvers = map[string]acmez.Solver{acme.ChallengeTypeHTTP01: solver}
		s.serve(t, &solver.answers)
	}
	return a
}

func (a *acmezClient) register(ctx context.Context) (err error) {
	if a.kid != "" {
		eab := acme.EAB{KeyID: a.kid, MACKey: a.hmac}
		if err := a.account.SetExternalAccountBinding(ctx, a.acmez.Client, eab); err != nil {
			return err
		}
	}
	a.account, err = a.acmez.NewAccount(ctx, a.account)
	return err
}

func (a *acmezClient) issue(ctx context.Context, names ...string) ([]*certificate, error) {
	der, key, err := newRequest(names)
	if err != nil {
		return nil, err
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, err
	}
	params, err := acmez.OrderParametersFromCSR(a.account, csr)
	if err != nil {
		return nil, err
	}
	if old := a.last[names[0]]; old != nil {
		params.Replaces = old.leaf
	}
	chains, err := a.acmez.ObtainCertificate(ctx, params)
	if err != nil {
		return nil, err
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	c, err := newCertificate(chains[0].ChainPEM, keyPEM)
	if err != nil {
		return nil, err
	}
	a.last[names[0]] = c
	return []*certificate{c}, nil
}

// renew asks for the renewal window, as certmagic does.
func (a *acmezClient) renew(ctx context.Context, names ...string) ([]*certificate, error) {
	info, err := a.acmez.GetRenewalInfo(ctx, a.last[names[0]].leaf)
	if err != nil {
		return nil, err
	}
	if !info.HasWindow() {
		return nil, errors.New("the renewal information has no window")
	}
	return a.issue(ctx, names...)
}

func (a *acmezClient) revoke(ctx context.Context, c *certificate) error {
	return a.acmez.RevokeCertificate(ctx, a.account, c.leaf, a.account.PrivateKey, acme.ReasonSuperseded)
}

func (a *acmezClient) rollover(ctx context.Context) error {
	key, err := newKey()
	if err != nil {
		return err
	}
	a.account, err = a.acmez.AccountKeyRollover(ctx, a.account, key)
	return err
}

// acmezSolver serves the answers to http-01 challenges.
type acmezSolver struct{ answers answers }

func (s *acmezSolver) Present(_ context.Context, c acme.Challenge) error {
	s.answers.set(c.HTTP01ResourcePath(), c.KeyAuthorization)
	return nil
}

func (s *acmezSolver) CleanUp(_ context.Context, c acme.Challenge) error {
	s.answers.byPath.Delete(c.HTTP01ResourcePath())
	return nil
}

// noSolver must not be asked.
type noSolver struct{}

func (noSolver) Present(context.Context, acme.Challenge) error {
	return errors.New("a challenge was presented")
}
func (noSolver) CleanUp(context.Context, acme.Challenge) error { return nil }
