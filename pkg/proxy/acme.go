package proxy

import (
	"context"
	"crypto/rand"
	"encoding/pem"

	"github.com/acmeproxy/acmeproxy/pkg/auth"
)

// acmePath is the path of the ACME door.
const acmePath = "/acme"

// bindingSecretName is the name of the secret from which the HMAC keys of external
// account bindings are derived.
const bindingSecretName = "acme-eab"

// openBindingSecret loads the secret of external account bindings.
func (p *Proxy) openBindingSecret(ctx context.Context) (err error) {
	p.bindingSecret, err = openSecret(ctx, p.store, p.identity, bindingSecretName, func() ([]byte, error) {
		secret := make([]byte, auth.BindingSecretLen)
		rand.Read(secret) // never fails since Go 1.24
		return secret, nil
	})
	return err
}

// acmeURL returns the URL of the ACME door, or an empty text without a public URL.
func (p *Proxy) acmeURL() string {
	if base := p.URL(); base != "" {
		return base + acmePath
	}
	return ""
}

// selfSigned returns the API's certificate in PEM while it is self-signed, and an empty
// text otherwise.
func (p *Proxy) selfSigned() string {
	c := p.tls.named.Load()
	if c == nil || p.tls.public.Load() != nil {
		return ""
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Leaf.Raw}))
}
