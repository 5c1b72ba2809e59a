package cert_test

import (
	"crypto"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"io"
	"math/big"
	"strings"
	"testing"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
)

// hugeRSA returns a public key whose modulus has that many bits and is no product
// of two primes: nothing may compute with it.
func hugeRSA(t testing.TB, bits, exponent int) *rsa.PublicKey {
	t.Helper()
	n := make([]byte, bits/8)
	if _, err := rand.Read(n); err != nil {
		t.Fatal(err)
	}
	n[0] |= 0x80
	n[len(n)-1] |= 1
	return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: exponent}
}

// A key that is too large for a chain is refused before any signature is checked,
// wherever in the chain it is and whether or not it would have signed anything (X41).
func TestChainWithHugeKeys(t *testing.T) {
	ca, key := newAuthority(t), generate(t, cert.EC256)
	leaf := ca.leaf(t, key.Public(), nil)
	issuer := func(public *rsa.PublicKey) *x509.Certificate {
		template, parent := *ca.intermediate, *ca.root
		parent.PublicKey = nil // the signature may be anybody's
		return issue(t, &template, &parent, public, ecKey(t, elliptic.P256()))
	}
	tooLarge := issuer(hugeRSA(t, 65536, 65537))
	keyPEM, err := cert.MarshalKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		chain []byte
		want  string
	}{
		"issuer":         {pemOf(leaf, tooLarge), "certificate 2 of the chain: RSA key of 65536 bits is too large"},
		"after a gap":    {pemOf(leaf, ca.root, tooLarge), "certificate 3 of the chain: RSA key of 65536 bits is too large"},
		"top":            {pemOf(leaf, ca.intermediate, ca.root, issuer(hugeRSA(t, 8200, 65537))), "certificate 4 of the chain: RSA key of 8200 bits"},
		"leaf":           {pemOf(ca.leaf(t, hugeRSA(t, 16384, 65537), nil)), "certificate 1 of the chain: RSA key of 16384 bits"},
		"exponent":       {pemOf(leaf, issuer(hugeRSA(t, 2048, 1<<31+1))), "certificate 2 of the chain: RSA exponent 2147483649"},
		"largest, wrong": {pemOf(leaf, issuer(hugeRSA(t, 8192, 65537))), "certificate 1 of the chain is not signed by the next one"},
	} {
		if _, err := cert.NewBundle(c.chain, key, key.Public(), leafNames); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("NewBundle, %s: %v; want an error with %q", name, err, c.want)
		}
		if _, err := cert.ParseBundle(append(keyPEM, c.chain...)); name != "largest, wrong" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("ParseBundle, %s: %v; want an error with %q", name, err, c.want)
		}
	}
}

// CSRs, the certificates of revocations and private keys have the same limit.
func TestHugeKeysElsewhere(t *testing.T) {
	ca := newAuthority(t)
	leaf := string(pemOf(ca.leaf(t, hugeRSA(t, 16384, 65537), nil)))
	if _, err := cert.ParseRevocation(leaf, "", "AAAA"); err == nil || !strings.Contains(err.Error(), "16384 bits") {
		t.Errorf("revocation: %v", err)
	}
	leaf = string(pemOf(ca.leaf(t, hugeRSA(t, 2048, 1<<40+1), nil)))
	if _, err := cert.ParseRevocation(leaf, "", "AAAA"); err == nil || !strings.Contains(err.Error(), "exponent 1099511627777") {
		t.Errorf("revocation: %v", err)
	}
	type pkcs1 struct { // RFC 8017, appendix A.1.2
		Version               int
		N                     *big.Int
		E                     int
		D, P, Q, Dp, Dq, Qinv *big.Int
	}
	huge, one := hugeRSA(t, 65536, 65537).N, big.NewInt(1)
	for name, k := range map[string]pkcs1{
		"modulus": {0, huge, 65537, one, one, one, one, one, one},
		"prime":   {0, one, 65537, one, huge, one, one, one, one},
		"private": {0, one, 65537, huge, one, one, one, one, one},
	} {
		b, err := asn1.Marshal(k)
		if err != nil {
			t.Fatal(err)
		}
		in := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: b})
		if _, err := cert.ParseKey(in); err == nil || !strings.Contains(err.Error(), "too large") {
			t.Errorf("private key with a huge %s: %v", name, err)
		}
	}
	for want, key := range map[string]*rsa.PublicKey{"RSA key of 65536 bits": hugeRSA(t, 65536, 65537), "RSA exponent 1099511627777": hugeRSA(t, 2048, 1<<40+1)} {
		refused(t, "CSR", sign(t, keyless{key}, emptySubject, nil), want)
	}
	if err := cert.CheckSize(hugeRSA(t, cert.MaxRSABits, 65537)); err != nil {
		t.Error(err)
	}
}

// keyless signs nothing: a signature of noise.
type keyless struct{ public *rsa.PublicKey }

func (k keyless) Public() crypto.PublicKey { return k.public }

func (k keyless) Sign(rand io.Reader, _ []byte, _ crypto.SignerOpts) ([]byte, error) {
	noise := make([]byte, k.public.Size())
	_, err := io.ReadFull(rand, noise)
	return noise, err
}
