package e2e

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
)

// certificate holds a chain and its key, as the client stored them.
type certificate struct {
	chain, key []byte // PEM
	leaf       *x509.Certificate
	pair       tls.Certificate
}

// newCertificate checks that a chain is strict PEM with the leaf first, and that the key
// is the leaf's. The chain ends with a newline and has at least an intermediate.
func newCertificate(chain, key []byte) (*certificate, error) {
	pair, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return nil, err
	}
	var strict []byte
	for _, der := range pair.Certificate {
		strict = append(strict, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	if len(pair.Certificate) < 2 || !bytes.Equal(strict, chain) {
		return nil, fmt.Errorf("the chain is not strict PEM of leaf and issuer:\n%q", chain)
	}
	return &certificate{chain: chain, key: key, leaf: pair.Leaf, pair: pair}, nil
}

// readCertificate reads the two files of a certificate.
func readCertificate(chainFile, keyFile string) (*certificate, error) {
	chain, err := os.ReadFile(chainFile)
	if err != nil {
		return nil, err
	}
	key, err := os.ReadFile(keyFile)
	if err != nil {
		return nil, err
	}
	c, err := newCertificate(chain, key)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", chainFile, err)
	}
	return c, nil
}

// verify checks a certificate as a browser does.
func (c *certificate) verify(roots *x509.CertPool, name string) error {
	between := x509.NewCertPool()
	for _, der := range c.pair.Certificate[1:] {
		parsed, err := x509.ParseCertificate(der)
		if err != nil {
			return err
		}
		between.AddCert(parsed)
	}
	_, err := c.leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, DNSName: name})
	return err
}

// sameKey reports whether two certificates have one key.
func (c *certificate) sameKey(d *certificate) bool {
	return bytes.Equal(c.leaf.RawSubjectPublicKeyInfo, d.leaf.RawSubjectPublicKeyInfo)
}

// newRequest returns a new key and a CSR with these names, as the tests of packages that
// leave both to the caller need them.
func newRequest(names []string) (csr []byte, key *ecdsa.PrivateKey, err error) {
	if key, err = newKey(); err != nil {
		return nil, nil, err
	}
	csr, err = x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: names}, key)
	return csr, key, err
}

func newKey() (*ecdsa.PrivateKey, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }

// fromDER returns the certificate of a package that returns DER.
func fromDER(chain [][]byte, key crypto.Signer) (*certificate, error) {
	var encoded []byte
	for _, der := range chain {
		encoded = append(encoded, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	return newCertificate(encoded, keyPEM)
}

func encodeKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}
