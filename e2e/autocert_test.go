package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"
)

// autocertClient is golang.org/x/crypto/acme/autocert, which gets a certificate when a TLS
// client asks for its name. It has a certificate for each name, no wildcards, and renews
// with the same key.
type autocertClient struct {
	*site
	cache   autocert.Cache
	http    *http.Client
	binding *acme.ExternalAccountBinding
	manager *autocert.Manager
}

func startAutocert(t *testing.T, s *site) client {
	a := &autocertClient{site: s, cache: autocert.DirCache(s.path("autocert")), http: s.http(t)}
	s.three = s.names("three", "www", "mail")
	if s.kid != "" {
		hmac, err := base64.RawURLEncoding.DecodeString(s.hmac)
		if err != nil {
			t.Fatal(err)
		}
		a.binding = &acme.ExternalAccountBinding{KID: s.kid, Key: hmac}
	}
	a.manager = a.newManager(a.cache, a.http)
	if s.solves {
		s.serve(t, a.manager.HTTPHandler(nil))
	}
	return a
}

func (a *autocertClient) newManager(cache autocert.Cache, client *http.Client) *autocert.Manager {
	return &autocert.Manager{
		Prompt: autocert.AcceptTOS, Cache: cache, ExternalAccountBinding: a.binding, Email: "admin@example.com",
		HostPolicy: func(context.Context, string) error { return nil },
		Client:     &acme.Client{DirectoryURL: a.directory, HTTPClient: client},
	}
}

func (*autocertClient) register(context.Context) error {
	return &lacking{"autocert registers when it orders the first certificate"}
}

func (a *autocertClient) issue(ctx context.Context, names ...string) ([]*certificate, error) {
	var all []*certificate
	for _, name := range names {
		if _, err := a.manager.GetCertificate(hello(name)); err != nil {
			return nil, err
		}
		c, err := a.read(ctx, name)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return all, nil
}

// hello returns the first message of a TLS client.
func hello(name string) *tls.ClientHelloInfo {
	return &tls.ClientHelloInfo{
		ServerName: name, SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256},
		SupportedCurves: []tls.CurveID{tls.CurveP256}, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256},
	}
}

// read returns the certificate in the cache.
func (a *autocertClient) read(ctx context.Context, name string) (*certificate, error) {
	data, err := a.cache.Get(ctx, name)
	if err != nil {
		return nil, err
	}
	key, chain := pem.Decode(data)
	if key == nil {
		return nil, errors.New("the cache has no key")
	}
	return newCertificate(chain, pem.EncodeToMemory(key))
}

// renew uses another manager to which the certificate seems to be due, as it also would
// after it was renewed. So the manager loses its connection after it stored a new one.
func (a *autocertClient) renew(ctx context.Context, names ...string) ([]*certificate, error) {
	once := &renewOnce{Cache: a.cache, next: a.http.Transport, stored: make(chan struct{}, 1)}
	manager := a.newManager(once, &http.Client{Transport: once})
	manager.RenewBefore = 30 * 24 * time.Hour // the longest, and longer than the lifetime
	if a.solves {
		manager.HTTPHandler(nil) // it must offer http-01; the answers are in the cache
	}
	if _, err := manager.GetCertificate(hello(names[0])); err != nil {
		return nil, err
	}
	select {
	case <-once.stored:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	c, err := a.read(ctx, names[0])
	return []*certificate{c}, err
}

// renewOnce reports that a certificate was stored, and lets no request through after that.
type renewOnce struct {
	autocert.Cache
	next   http.RoundTripper
	done   atomic.Bool
	stored chan struct{}
}

func (r *renewOnce) Put(ctx context.Context, key string, data []byte) error {
	if err := r.Cache.Put(ctx, key, data); err != nil || !bytes.Contains(data, []byte("CERTIFICATE")) {
		return err
	}
	if !r.done.Swap(true) {
		r.stored <- struct{}{}
	}
	return nil
}

func (r *renewOnce) RoundTrip(req *http.Request) (*http.Response, error) {
	if r.done.Load() {
		return nil, errors.New("renewed once")
	}
	return r.next.RoundTrip(req)
}

func (*autocertClient) revoke(context.Context, *certificate) error {
	return &lacking{"autocert has no function that revokes a certificate"}
}

func (*autocertClient) rollover(context.Context) error {
	return &lacking{"autocert has no function that changes the account key"}
}
