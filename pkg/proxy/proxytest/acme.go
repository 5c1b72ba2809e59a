package proxytest

import (
	"context"
	"crypto"
	"crypto/tls"
	"encoding/base64"
	"net"
	"net/http"
	"testing"

	xacme "golang.org/x/crypto/acme"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/frontend/admin"
	"github.com/acmeproxy/acmeproxy/pkg/proxy"
)

// ACMEName is the public host name of a proxy with an ACME door.
const ACMEName = "acmeproxy.example.test"

// WithACME gives the proxy a public URL, so that it has an ACME door. It gets no
// certificate for that name.
func WithACME(cfg *proxy.Config) { cfg.PublicURL = "https://" + ACMEName }

// ACMECredential creates a client for the mode acme, with an external account binding.
func (p *Proxy) ACMECredential(t testing.TB, name string, grants ...clients.Grant) admin.ACMEAnswer {
	t.Helper()
	if _, err := p.Admin.AddClient(t.Context(), admin.NewClient{Name: name, Grants: grants, NoSecret: true}); err != nil {
		t.Fatal(err)
	}
	return p.NewACME(t, name, admin.NewACME{Kind: clients.ACMEBinding})
}

// NewACME creates a credential of the ACME door.
func (p *Proxy) NewACME(t testing.TB, name string, req admin.NewACME) admin.ACMEAnswer {
	t.Helper()
	answer, err := p.Admin.NewACME(t.Context(), name, req)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// ACMEHTTP returns an HTTP client for the ACME door. It connects to this proxy, whatever
// the host of the URL.
func (p *Proxy) ACMEHTTP(t testing.TB, cfg *tls.Config) *http.Client {
	if cfg == nil {
		cfg = &tls.Config{InsecureSkipVerify: true}
	}
	addr := p.Address
	if addr == "" {
		addr = p.HTTPSAddr()
	}
	transport := &http.Transport{TLSClientConfig: cfg, ForceAttemptHTTP2: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", addr)
	}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// ACMEAccount is a stock ACME client with an account at the proxy.
type ACMEAccount struct {
	*xacme.Client
	proxy *Proxy
}

// NewACMEAccount registers an account with a credential.
func (p *Proxy) NewACMEAccount(t testing.TB, credential admin.ACMEAnswer) *ACMEAccount {
	t.Helper()
	a, err := p.TryACMEAccount(t, credential, nil)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TryACMEAccount tries to register an account with a credential and a key; a new one if
// nil.
func (p *Proxy) TryACMEAccount(t testing.TB, credential admin.ACMEAnswer, key crypto.Signer) (*ACMEAccount, error) {
	t.Helper()
	if key == nil {
		key = NewKey(t)
	}
	a := &ACMEAccount{&xacme.Client{Key: key, DirectoryURL: credential.Directory, HTTPClient: p.ACMEHTTP(t, nil)}, p}
	account := &xacme.Account{}
	if credential.Kid != "" {
		mac, err := base64.RawURLEncoding.DecodeString(credential.HMACKey)
		if err != nil {
			t.Fatal(err)
		}
		account.ExternalAccountBinding = &xacme.ExternalAccountBinding{KID: credential.Kid, Key: mac}
	}
	_, err := a.Register(t.Context(), account, xacme.AcceptTOS)
	return a, err
}

// At returns the same account at another instance.
func (a *ACMEAccount) At(t testing.TB, p *Proxy) *ACMEAccount {
	other := &xacme.Client{Key: a.Key, DirectoryURL: a.DirectoryURL, HTTPClient: p.ACMEHTTP(t, nil), KID: a.KID}
	return &ACMEAccount{other, p}
}

// Order creates an order.
func (a *ACMEAccount) Order(ctx context.Context, names ...string) (*xacme.Order, error) {
	ids := make([]xacme.AuthzID, 0, len(names))
	for _, name := range names {
		kind := "dns"
		if cert.IsIP(name) {
			kind = "ip"
		}
		ids = append(ids, xacme.AuthzID{Type: kind, Value: name})
	}
	return a.AuthorizeOrder(ctx, ids)
}

// Finalize finalizes an order with a key and returns the certificate in DER, the leaf
// first.
func (a *ACMEAccount) Finalize(ctx context.Context, t testing.TB, o *xacme.Order, key crypto.Signer, names ...string) ([][]byte, error) {
	t.Helper()
	csr, err := cert.NewCSR(key, Names(t, names...))
	if err != nil {
		t.Fatal(err)
	}
	chain, _, err := a.CreateOrderCert(ctx, o.FinalizeURL, csr, true)
	return chain, err
}

// Obtain orders a certificate with a new key.
func (a *ACMEAccount) Obtain(t testing.TB, names ...string) ([][]byte, error) {
	t.Helper()
	o, err := a.Order(t.Context(), names...)
	if err != nil {
		return nil, err
	}
	return a.Finalize(t.Context(), t, o, NewKey(t), names...)
}

// NewKey generates a key.
func NewKey(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := cert.GenerateKey(cert.EC256)
	if err != nil {
		t.Fatal(err)
	}
	return key
}
