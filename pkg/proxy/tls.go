package proxy

import (
	"context"
	"crypto"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"filippo.io/age"

	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/auth"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/connlimit"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/responder"
	"github.com/acmeproxy/acmeproxy/pkg/seal"
	"github.com/acmeproxy/acmeproxy/pkg/store"
)

// apiTLS holds the API's two certificates. Remotes request the pinned one by ALPN.
// Its key never changes, so they reach the proxy even while a CA is down or a
// certificate has expired. Other clients get the CA's certificate once it exists.
type apiTLS struct {
	pinned *tls.Certificate
	named  atomic.Pointer[tls.Certificate] // self-signed, with the pinned key and the hostname; nil without one
	public atomic.Pointer[tls.Certificate] // nil until acme-client mode has obtained one
	alpn   *responder.TLSALPN              // answers CAs that validate
}

// pinnedKeyName is the name of the secret that holds the pinned key in the store.
const pinnedKeyName = "api-key"

// newAPITLS loads the pinned key, or creates it the first time. The key is stored,
// sealed, so that instances with the same store share it.
func newAPITLS(ctx context.Context, s *store.Store, identity *age.X25519Identity) (*apiTLS, error) {
	pem, err := openSecret(ctx, s, identity, pinnedKeyName, createPinnedKey)
	if err != nil {
		return nil, fmt.Errorf("the API's key: %w", err)
	}
	key, err := cert.ParseKey(pem)
	if err != nil {
		return nil, fmt.Errorf("the API's key: %w", err)
	}
	pinned, err := cert.SelfSigned(key, "acmeproxy")
	if err != nil {
		return nil, fmt.Errorf("the API's key: %w", err)
	}
	return &apiTLS{pinned: pinned, alpn: responder.NewTLSALPN()}, nil
}

func createPinnedKey() ([]byte, error) {
	key, err := cert.GenerateKey(cert.EC256)
	if err != nil {
		return nil, err
	}
	return cert.MarshalKey(key)
}

// openSecret returns a secret of the store, or creates it the first time. It is stored
// sealed to the identity. All instances on a database get the same one.
func openSecret(ctx context.Context, s *store.Store, identity *age.X25519Identity, name string, create func() ([]byte, error)) ([]byte, error) {
	sealed, err := s.Secret(ctx, name)
	if errors.Is(err, managed.ErrNotFound) {
		sealed, err = createSecret(ctx, s, identity, name, create)
	}
	if err != nil {
		return nil, err
	}
	plain, err := seal.Open(sealed, identity)
	if err != nil {
		return nil, fmt.Errorf("the secret %s in %s: %w; was %s replaced? Instances that share a database need the same file; copy it from the data directory of the first", name, s, err, identityName)
	}
	return plain, nil
}

func createSecret(ctx context.Context, s *store.Store, identity *age.X25519Identity, name string, create func() ([]byte, error)) ([]byte, error) {
	plain, err := create()
	if err != nil {
		return nil, err
	}
	sealed, err := seal.Seal(plain, identity.Recipient())
	if err != nil {
		return nil, err
	}
	return s.CreateSecret(ctx, name, sealed)
}

// pin returns the pin for enrolment tokens.
func (a *apiTLS) pin() [32]byte { return auth.SPKIPin(a.pinned.Leaf) }

// install makes the API serve a bundle of acme-client mode from now on.
func (a *apiTLS) install(b *cert.Bundle) {
	c := &tls.Certificate{Certificate: [][]byte{b.Leaf.Raw}, PrivateKey: b.Key, Leaf: b.Leaf}
	for _, issuer := range b.Chain {
		c.Certificate = append(c.Certificate, issuer.Raw)
	}
	a.public.Store(c)
}

// cipherSuites are those of TLS 1.2, which only the ACME door accepts.
var cipherSuites = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
	tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
}

// maxClientChain is the number of certificates that a client may send, because some
// libraries send their chain. Only the first is used, but all stay in memory.
const maxClientChain = 8

// config returns the API's TLS configuration. It requests a client certificate and
// does not check its chain: the handshake proves that the client has the key, and auth
// knows the key's owner. A CA that validates by TLS-ALPN-01 gets its own handshake.
// The server then closes the connection, because it does not implement acme-tls/1.
func (a *apiTLS) config() *tls.Config {
	config := &tls.Config{
		MinVersion:     tls.VersionTLS12, // for the ACME door; the native API refuses it
		CipherSuites:   cipherSuites,
		ClientAuth:     tls.RequestClientCert,
		NextProtos:     []string{"h2", "http/1.1"},
		GetCertificate: a.certificate,
	}
	forAll := config.Clone()
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if c, err := a.alpn.Config(hello); c != nil || err != nil {
			return c, err
		}
		c := forAll.Clone() // clones share config's keys for session tickets
		switch {
		case slices.Contains(hello.SupportedProtos, api.ALPN):
			c.MinVersion = tls.VersionTLS13
		case !slices.Contains(hello.SupportedVersions, tls.VersionTLS13):
			c.ClientAuth = tls.NoClientCert // it cannot use the native API, and some appliances fail on the question
		}
		c.VerifyConnection = func(state tls.ConnectionState) error {
			if n := len(state.PeerCertificates); n > maxClientChain {
				return fmt.Errorf("%d client certificates; at most %d are accepted", n, maxClientChain)
			}
			connlimit.Of(hello.Conn).Complete()
			return nil
		}
		return c, nil
	}
	return config
}

// hasPublic reports whether there is a certificate of the CA for a hostname.
func (a *apiTLS) hasPublic(name string) bool {
	public := a.public.Load()
	return public != nil && public.Leaf.VerifyHostname(name) == nil
}

func (a *apiTLS) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if slices.Contains(hello.SupportedProtos, api.ALPN) {
		return a.pinned, nil
	}
	if public := a.public.Load(); public != nil {
		return public, nil
	}
	if named := a.named.Load(); named != nil {
		return named, nil
	}
	return a.pinned, nil
}

// setName makes the API serve a self-signed certificate for a host name until it has one
// of the CA, so that clients can trust it by file. It does nothing without a name.
func (a *apiTLS) setName(name string) error {
	if name == "" {
		a.named.Store(nil)
		return nil
	}
	key, ok := a.pinned.PrivateKey.(crypto.Signer)
	if !ok {
		return errors.New("the API's key cannot sign")
	}
	c, err := cert.SelfSignedFor(key, name)
	if err == nil {
		a.named.Store(c)
	}
	return err
}

// installed makes the API serve a bundle of acme-client mode if it is for the
// proxy's hostname. That may have changed since a job of an earlier generation began.
func (g *generation) installed(b *cert.Bundle) {
	p, name := g.process, g.hostname()
	if g.serving.Err() != nil {
		name = p.hostname()
	}
	if name != "" && b.Leaf.VerifyHostname(name) == nil {
		p.tls.install(b)
		p.log.Info("the API serves its certificate from the CA", "hostname", name, "serial", b.Serial(), "not_after", b.NotAfter())
	}
}
