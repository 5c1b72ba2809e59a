package certfile

import (
	"crypto"
	"crypto/x509"
	"fmt"
	"slices"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
)

// encodePKCS12 uses AES-256 and HMAC-SHA-256 (RFC 7292 with PBES2). OpenSSL 1.1.1,
// Java 12, Windows Server 2019 and later versions read these.
func encodePKCS12(b *cert.Bundle, password string) ([]byte, error) {
	data, err := pkcs12.Modern2023.Encode(b.Key, b.Leaf, b.Chain, password)
	if err != nil {
		return nil, fmt.Errorf("make %s: %w", PKCS12, err)
	}
	return data, nil
}

// opensPKCS12 reports whether data decrypts to the bundle with this password.
func opensPKCS12(data []byte, password string, b *cert.Bundle) bool {
	key, leaf, chain, err := pkcs12.DecodeChain(data, password)
	if err != nil || !leaf.Equal(b.Leaf) || !slices.EqualFunc(chain, b.Chain, (*x509.Certificate).Equal) {
		return false
	}
	signer, ok := key.(crypto.Signer)
	return ok && cert.SameKey(signer.Public(), b.Key.Public())
}
