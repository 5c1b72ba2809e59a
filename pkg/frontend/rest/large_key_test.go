package rest_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
)

// noise has an RSA key without a private half, and signs with random bytes.
type noise struct{ public *rsa.PublicKey }

func newNoise(t testing.TB, bits int) noise {
	t.Helper()
	n := make([]byte, bits/8)
	if _, err := rand.Read(n); err != nil {
		t.Fatal(err)
	}
	n[0] |= 0x80
	n[len(n)-1] |= 1
	return noise{&rsa.PublicKey{N: new(big.Int).SetBytes(n), E: 65537}}
}

func (n noise) Public() crypto.PublicKey { return n.public }

func (n noise) Sign(random io.Reader, _ []byte, _ crypto.SignerOpts) ([]byte, error) {
	signature := make([]byte, n.public.Size())
	_, err := io.ReadFull(random, signature)
	return signature, err
}

// A client's TLS key with more than 8192 bits ends its handshake before anything is
// verified with it; a smaller one would have been (X41).
func TestLargeClientKeys(t *testing.T) {
	t.Parallel()
	p := proxytest.Start(t, proxytest.Options{})
	signer, err := cert.GenerateKey(cert.EC256)
	if err != nil {
		t.Fatal(err)
	}
	for bits, want := range map[int]string{8200: "bad certificate", 2048: "error decrypting message"} {
		if err := shakeHands(t, p, signer, newNoise(t, bits)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("a key of %d bits: %v; want %q", bits, err, want)
		}
	}
}

// shakeHands returns how a connection with that key ends.
func shakeHands(t *testing.T, p *proxytest.Proxy, signer crypto.Signer, key noise) error {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, &x509.Certificate{SerialNumber: big.NewInt(2)}, key.public, signer)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := tls.Dial("tcp", p.HTTPSAddr(), &tls.Config{
		InsecureSkipVerify: true,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
		},
	})
	if err == nil { // with TLS 1.3 the client is done before the server has read its certificate
		_, err = conn.Read(make([]byte, 1))
		conn.Close()
	}
	return err
}
