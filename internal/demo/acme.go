//go:build unix

package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	xacme "golang.org/x/crypto/acme"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/frontend/admin"
)

const web3 = "web3"

// acmeDoor shows a program that speaks ACME, and knows nothing of acmeproxy.
func (s *story) acmeDoor() error {
	const name = "web3.example.test"
	s.chapter("ACME: an ordinary ACME client on web3 uses the proxy as its CA")
	if _, err := s.run(dmz, "clients", "add", web3, "--allow", name, "--mode", "acme"); err != nil {
		return err
	}
	args := []string{"clients", "acme", web3, "--json"}
	s.show(dmz, args)
	text, err := s.quiet(io.Discard, args...)
	if err != nil {
		return err
	}
	var credential admin.ACMEAnswer
	if err := json.Unmarshal([]byte(text), &credential); err != nil {
		return err
	}
	s.say("    directory %s, kid %s…, and an HMAC key", credential.Directory, credential.Kid[:6])
	client, err := s.acmeClientOf(credential)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(s.ctx, 2*time.Minute)
	defer cancel()
	b, err := obtain(ctx, client, name)
	if err != nil {
		return fmt.Errorf("web3: %w", err)
	}
	want, err := cert.ParseNames(name)
	if err != nil {
		return err
	}
	if err := verify(b, want, s.ca.RootsPEM); err != nil {
		return fmt.Errorf("web3: %w", err)
	}
	s.say("certificate  %s, for golang.org/x/crypto/acme, which opened no port and changed no DNS", want)
	s.say("  issuer     %s; the chain verifies against the CA's root", b.Leaf.Issuer.CommonName)
	const foreign = "web1.example.test"
	_, err = client.AuthorizeOrder(ctx, xacme.DomainIDs(foreign))
	var refused *xacme.Error
	if !errors.As(err, &refused) || !strings.Contains(refused.Detail, "not granted") {
		return fmt.Errorf("web3 ordered %s: %w", foreign, err)
	}
	s.say("its order for %s is refused: %s", foreign, refused.Detail)
	return nil
}

// acmeClientOf registers an account with a credential. The client finds the proxy by
// address, and trusts the CA's root only.
func (s *story) acmeClientOf(credential admin.ACMEAnswer) (*xacme.Client, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	mac, err := base64.RawURLEncoding.DecodeString(credential.HMACKey)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(s.ca.RootsPEM) {
		return nil, errors.New("the CA has no root")
	}
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots},
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", strings.TrimPrefix(s.api, "https://"))
		},
	}
	s.stops = append(s.stops, transport.CloseIdleConnections)
	client := &xacme.Client{Key: key, DirectoryURL: credential.Directory, HTTPClient: &http.Client{Transport: transport}}
	_, err = client.Register(s.ctx, &xacme.Account{
		ExternalAccountBinding: &xacme.ExternalAccountBinding{KID: credential.Kid, Key: mac},
	}, xacme.AcceptTOS)
	return client, err
}

// obtain orders a certificate with a key of its own.
func obtain(ctx context.Context, client *xacme.Client, name string) (*cert.Bundle, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	names := cert.Names{name}
	csr, err := cert.NewCSR(key, names)
	if err != nil {
		return nil, err
	}
	order, err := client.AuthorizeOrder(ctx, xacme.DomainIDs(name))
	if err != nil {
		return nil, err
	}
	chain, _, err := client.CreateOrderCert(ctx, order.FinalizeURL, csr, true)
	if err != nil {
		return nil, err
	}
	b := &cert.Bundle{Key: key}
	for i, der := range chain {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, err
		}
		if i == 0 {
			b.Leaf = c
		} else {
			b.Chain = append(b.Chain, c)
		}
	}
	if b.Leaf == nil {
		return nil, errors.New("the chain is empty")
	}
	return b, nil
}
