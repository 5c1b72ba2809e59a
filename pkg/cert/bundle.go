package cert

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Request describes the wanted certificate. Names or CSR must be set. With a CSR,
// its names apply and the bundle has no key.
type Request struct {
	Names   Names
	CSR     []byte  // DER, already checked by ParseCSR
	KeyType KeyType // type of the key to generate when CSR is nil
	Profile string  // the CA's profile; empty is the CA's default
	Client  string  // ID of the client, which gets a share of the places; empty for the proxy itself

	CA string // name or directory URL of the CA; empty is the default one

	// Replaces is the acme.CertID of the certificate that a new order replaces (RFC 9773,
	// section 5); empty: none. If the CA refuses that, the order replaces none.
	Replaces string

	// Alternates asks for the other chains that the CA offers, too (RFC 8555, section
	// 7.4.2). Each costs a request.
	Alternates bool

	// Order continues an existing order; the zero value begins a new one.
	Order Order
	// OnOrder, if set, is called once the order exists at the CA and before it is
	// processed. An error ends the issuance. A caller with a journal writes the
	// order here, so that it survives a crash.
	OnOrder func(ctx context.Context, order Order) error
	// OnInvalid, if set, is called before another order replaces Order, which the CA made
	// invalid. If it returns false, the reason of the CA is the result of the issuance.
	OnInvalid func(ctx context.Context) (replace bool, err error)
}

// Order identifies an order at a CA.
type Order struct {
	CA  string // directory URL
	URL string // of the order
}

// Bundle holds an issued certificate with its chain. It includes the key unless the
// client generated it.
type Bundle struct {
	Key   crypto.Signer // nil if the request came with a CSR
	Leaf  *x509.Certificate
	Chain []*x509.Certificate // the issuers, leaf's own first, root excluded
	// Alternates holds other chains of the same leaf, each like Chain, if the request asked
	// for them.
	Alternates [][]*x509.Certificate
	CA         string // directory URL of the CA that issued it; empty if unknown
	URL        string // URL of the certificate at the CA, for its account; empty if unknown
}

// ErrOtherKey means that a certificate is for another key than the one in the request.
var ErrOtherKey = errors.New("the certificate is for another key than the one asked for")

// NewBundle reads a PEM chain, leaf first, as ACME serves it (RFC 8555, section
// 9.1). It returns an error if the key or the names are not the requested ones.
// Some CAs send a certificate of the chain twice; the second one is omitted.
func NewBundle(chainPEM []byte, key crypto.Signer, public crypto.PublicKey, names Names) (*Bundle, error) {
	chain, err := parseCertificates(chainPEM)
	if err != nil {
		return nil, err
	}
	chain = withoutRepeats(chain)
	b := &Bundle{Key: key, Leaf: chain[0], Chain: chain[1:]}
	if !SameKey(public, b.Leaf.PublicKey) {
		return nil, ErrOtherKey
	}
	if err := checkNames(b.Leaf, names); err != nil {
		return nil, err
	}
	if !b.Leaf.NotAfter.After(b.Leaf.NotBefore) {
		return nil, errors.New("the certificate ends before it begins")
	}
	for i, issuer := range b.Chain {
		if err := chain[i].CheckSignatureFrom(issuer); err != nil {
			return nil, fmt.Errorf("certificate %d of the chain is not signed by the next one", i+1)
		}
	}
	return b, nil
}

// withoutRepeats returns each certificate once, at its first position.
func withoutRepeats(chain []*x509.Certificate) (once []*x509.Certificate) {
	for _, c := range chain {
		if !slices.ContainsFunc(once, c.Equal) {
			once = append(once, c)
		}
	}
	return once
}

// checkNames returns an error unless the leaf has exactly the wanted names.
func checkNames(leaf *x509.Certificate, want Names) error {
	got, err := LeafNames(leaf)
	if err != nil {
		return err
	}
	if !got.Equal(want) {
		return fmt.Errorf("the certificate is for %s, not for %s", got, want)
	}
	return nil
}

// LeafNames returns the name set of a certificate, from its subjectAltName.
func LeafNames(leaf *x509.Certificate) (Names, error) {
	all := append([]string(nil), leaf.DNSNames...)
	for _, ip := range leaf.IPAddresses {
		all = append(all, ip.String())
	}
	names, err := ParseNames(all...)
	if err != nil {
		return nil, fmt.Errorf("the certificate's names: %w", err)
	}
	return names, nil
}

// maxChain limits the number of certificates read from a CA or a proxy.
const maxChain = 16

// ErrNoCertificate reports that a text contains no certificate.
var ErrNoCertificate = errors.New("no PEM certificate found")

func parseCertificates(data []byte) ([]*x509.Certificate, error) {
	var chain []*x509.Certificate
	data = tolerant(data)
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		if len(chain) == maxChain {
			return nil, fmt.Errorf("more than %d certificates in the chain", maxChain)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d of the chain: %w", len(chain)+1, err)
		}
		if err := CheckSize(c.PublicKey); err != nil {
			return nil, fmt.Errorf("certificate %d of the chain: %w", len(chain)+1, err)
		}
		chain = append(chain, c)
	}
	if len(chain) == 0 {
		return nil, ErrNoCertificate
	}
	return chain, nil
}

// tolerant converts what some CAs and editors write to strict PEM. It removes a
// byte order mark and adds a missing newline between two blocks.
func tolerant(text []byte) []byte {
	text = bytes.ReplaceAll(text, []byte("\ufeff"), nil)
	return bytes.ReplaceAll(text, []byte("----------BEGIN "), []byte("-----\n-----BEGIN "))
}

// ParseBundle reads the output of PEM: a key (optional), the leaf, the chain. A key
// that does not match the leaf is an error.
func ParseBundle(data []byte) (*Bundle, error) {
	chain, err := parseCertificates(data)
	if err != nil {
		return nil, err
	}
	b := &Bundle{Leaf: chain[0], Chain: chain[1:]}
	if !bytes.Contains(data, []byte("PRIVATE KEY-----")) {
		return b, nil
	}
	if b.Key, err = ParseKey(data); err != nil {
		return nil, err
	}
	if !SameKey(b.Key.Public(), b.Leaf.PublicKey) {
		return nil, errors.New("the private key does not belong to the certificate")
	}
	return b, nil
}

// Names returns the bundle's name set.
func (b *Bundle) Names() (Names, error) { return LeafNames(b.Leaf) }

// Serial returns the leaf's serial number in lower-case hexadecimal, two digits for
// each byte, as openssl shows it.
func (b *Bundle) Serial() string { return hex.EncodeToString(b.Leaf.SerialNumber.Bytes()) }

// NotAfter returns the time at which the leaf expires.
func (b *Bundle) NotAfter() time.Time { return b.Leaf.NotAfter }

// RenewAt returns the time to renew without the CA's advice. It is after two thirds
// of the lifetime, or after half of a lifetime below ten days.
func (b *Bundle) RenewAt() time.Time {
	return RenewAt(b.Leaf.NotBefore, b.Leaf.NotAfter)
}

// RenewAt returns the same as Bundle.RenewAt, from the dates alone.
func RenewAt(notBefore, notAfter time.Time) time.Time {
	life := notAfter.Sub(notBefore)
	if life < 10*24*time.Hour {
		return notBefore.Add(life / 2)
	}
	return notBefore.Add(life / 3 * 2)
}

// LeafPEM returns certbot's cert.pem.
func (b *Bundle) LeafPEM() []byte { return encodeCertificates(b.Leaf) }

// ChainPEM returns the issuers' certificates, certbot's chain.pem.
func (b *Bundle) ChainPEM() []byte { return encodeCertificates(b.Chain...) }

// FullchainPEM returns the leaf followed by the chain, certbot's fullchain.pem.
func (b *Bundle) FullchainPEM() []byte { return append(b.LeafPEM(), b.ChainPEM()...) }

// AlternatesPEM returns the leaf followed by each of the alternate chains.
func (b *Bundle) AlternatesPEM() (all [][]byte) {
	for _, chain := range b.Alternates {
		all = append(all, append(b.LeafPEM(), encodeCertificates(chain...)...))
	}
	return all
}

// KeyPEM returns certbot's privkey.pem, in PKCS#8.
func (b *Bundle) KeyPEM() ([]byte, error) {
	if b.Key == nil {
		return nil, errors.New("the bundle has no key")
	}
	return MarshalKey(b.Key)
}

// PEM returns the whole bundle: the key, if any, the leaf, the chain.
func (b *Bundle) PEM() ([]byte, error) {
	if b.Key == nil {
		return b.FullchainPEM(), nil
	}
	key, err := MarshalKey(b.Key)
	if err != nil {
		return nil, err
	}
	return append(key, b.FullchainPEM()...), nil
}

func encodeCertificates(certs ...*x509.Certificate) []byte {
	var s strings.Builder
	for _, c := range certs {
		s.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
	}
	return []byte(s.String())
}
