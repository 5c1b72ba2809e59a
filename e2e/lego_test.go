package e2e

import (
	"context"
	"crypto"
	"fmt"
	"strconv"
	"testing"

	legocert "github.com/go-acme/lego/v4/certificate"
	"github.com/go-acme/lego/v4/challenge/http01"
	"github.com/go-acme/lego/v4/lego"
	"github.com/go-acme/lego/v4/registration"
)

// legoClient is github.com/go-acme/lego/v4.
type legoClient struct {
	*site
	lego  *lego.Client
	again *lego.Client // another one with the same key
	user  *legoUser
	last  map[string]*certificate // by the first name
}

// legoUser implements registration.User.
type legoUser struct {
	key      crypto.PrivateKey
	resource *registration.Resource
}

func (*legoUser) GetEmail() string                          { return "admin@example.com" }
func (u *legoUser) GetRegistration() *registration.Resource { return u.resource }
func (u *legoUser) GetPrivateKey() crypto.PrivateKey        { return u.key }

func startLego(t *testing.T, s *site) client {
	key, err := newKey()
	if err != nil {
		t.Fatal(err)
	}
	l := &legoClient{site: s, user: &legoUser{key: key}, last: make(map[string]*certificate)}
	config := lego.NewConfig(l.user)
	config.CADirURL, config.HTTPClient = s.directory, s.http(t)
	if l.lego, err = lego.NewClient(config); err != nil {
		t.Fatal(err)
	}
	config.HTTPClient = s.http(t)
	if l.again, err = lego.NewClient(config); err != nil {
		t.Fatal(err)
	}
	solver := http01.NewProviderServer("127.0.0.1", strconv.Itoa(s.port))
	if err := l.lego.Challenge.SetHTTP01Provider(solver); err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *legoClient) register(context.Context) (err error) {
	if l.kid == "" {
		l.user.resource, err = l.lego.Registration.Register(registration.RegisterOptions{TermsOfServiceAgreed: true})
	} else {
		l.user.resource, err = l.lego.Registration.RegisterWithExternalAccountBinding(
			registration.RegisterEABOptions{TermsOfServiceAgreed: true, Kid: l.kid, HmacEncoded: l.hmac})
	}
	if err != nil {
		return err
	}
	found, err := l.again.Registration.ResolveAccountByKey()
	if err != nil || found.URI != l.user.resource.URI {
		return fmt.Errorf("the account is %+v: %w", found, err)
	}
	return nil
}

func (l *legoClient) issue(_ context.Context, names ...string) ([]*certificate, error) {
	return l.order(legocert.ObtainRequest{Domains: names, Bundle: true})
}

// renew asks for the renewal window and names the replaced certificate, as the program does.
func (l *legoClient) renew(_ context.Context, names ...string) ([]*certificate, error) {
	old := l.last[names[0]].leaf
	info, err := l.lego.Certificate.GetRenewalInfo(legocert.RenewalInfoRequest{Cert: old})
	if err != nil {
		return nil, err
	}
	if !info.SuggestedWindow.End.Before(old.NotAfter) {
		return nil, fmt.Errorf("the renewal window is %+v", info.SuggestedWindow)
	}
	id, err := legocert.MakeARICertID(old)
	if err != nil {
		return nil, err
	}
	return l.order(legocert.ObtainRequest{Domains: names, Bundle: true, ReplacesCertID: id})
}

func (l *legoClient) order(r legocert.ObtainRequest) ([]*certificate, error) {
	got, err := l.lego.Certificate.Obtain(r)
	if err != nil {
		return nil, err
	}
	c, err := newCertificate(got.Certificate, got.PrivateKey)
	if err != nil {
		return nil, err
	}
	l.last[r.Domains[0]] = c
	return []*certificate{c}, nil
}

func (l *legoClient) revoke(_ context.Context, c *certificate) error {
	reason := uint(4) // superseded
	return l.lego.Certificate.RevokeWithReason(c.chain, &reason)
}

func (*legoClient) rollover(context.Context) error {
	return &lacking{"lego has no function that changes the account key"}
}
