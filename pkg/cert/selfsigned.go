package cert

import (
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"time"
)

// SelfSigned returns a TLS certificate for a key. It is for connections where both
// ends check only the pinned key.
func SelfSigned(key crypto.Signer, commonName string) (*tls.Certificate, error) {
	return selfSigned(rand.Reader, key, selfSignedTemplate(commonName))
}

// SelfSignedFor returns a TLS certificate of a server for a host name or an IP address.
// Clients trust it by a file. So an ECDSA key gives the same bytes each time.
func SelfSignedFor(key crypto.Signer, name string) (*tls.Certificate, error) {
	template := selfSignedTemplate(name)
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	template.BasicConstraintsValid = true // some programs refuse a root without basicConstraints
	if ip := net.ParseIP(name); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{name}
	}
	return selfSigned(nil, key, template)
}

func selfSignedTemplate(commonName string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: commonName},
		NotBefore:    time.Unix(0, 0),
		NotAfter:     time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), // never: RFC 5280, section 4.1.2.5
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
}

// selfSigned signs with randomness from random. If it is nil, an ECDSA signature is
// deterministic (RFC 6979).
func selfSigned(random io.Reader, key crypto.Signer, template *x509.Certificate) (*tls.Certificate, error) {
	der, err := x509.CreateCertificate(random, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}
