package responder

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// ALPN is the only protocol that a CA offers for TLS-ALPN-01 (RFC 8737, section
// 6.2). No data follows the handshake.
const ALPN = "acme-tls/1"

// idPeACMEIdentifier identifies the extension that contains the answer (RFC 8737,
// section 6.1).
var idPeACMEIdentifier = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 31}

// errNoChallenge appears in the log only. It contains nothing of the hello.
var errNoChallenge = errors.New("no TLS-ALPN-01 challenge for this name")

// TLSALPN answers TLS-ALPN-01 challenges (RFC 8737) on a port that has another
// service as well. Only handshakes that offer acme-tls/1 alone get a challenge's
// certificate. It is safe for concurrent use.
//
//	answers := responder.NewTLSALPN()
//	config := &tls.Config{GetConfigForClient: answers.Config, …}
//	answer, err := answers.Put("www.example.com", keyAuthorization)
//	defer answer.Remove()
type TLSALPN struct {
	config *tls.Config

	mu      sync.RWMutex
	answers map[string][]*TLSAnswer // by server name in the hello, the newest last; guarded by mu
}

// NewTLSALPN returns a TLSALPN without answers.
func NewTLSALPN() *TLSALPN {
	t := &TLSALPN{answers: map[string][]*TLSAnswer{}}
	t.config = &tls.Config{
		MinVersion:             tls.VersionTLS12, // RFC 8737, section 3: 1.2 or higher
		NextProtos:             []string{ALPN},
		GetCertificate:         t.certificate,
		SessionTicketsDisabled: true,
	}
	return t
}

// TLSAnswer is one published challenge certificate.
type TLSAnswer struct {
	table       *TLSALPN
	serverName  string
	certificate *tls.Certificate
	fetched     chan struct{}
	once        sync.Once
}

// Put publishes the certificate for one DNS name or IP address until Remove is
// called. The CA sends the name alone, so a second Put of a name hides the first
// until it is removed.
func (t *TLSALPN) Put(name, keyAuthorization string) (*TLSAnswer, error) {
	c, err := challengeCertificate(name, keyAuthorization)
	if err != nil {
		return nil, fmt.Errorf("create the challenge's certificate: %w", err)
	}
	a := &TLSAnswer{table: t, serverName: serverName(name), certificate: c, fetched: make(chan struct{})}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.answers[a.serverName] = append(t.answers[a.serverName], a)
	return a, nil
}

// Fetched returns a channel that is closed when the certificate is first requested.
// It is a hint, as with HTTP-01.
func (a *TLSAnswer) Fetched() <-chan struct{} { return a.fetched }

// SetFetched records that the certificate was requested elsewhere.
func (a *TLSAnswer) SetFetched() { a.once.Do(func() { close(a.fetched) }) }

// Remove removes the answer. It may be called twice.
func (a *TLSAnswer) Remove() {
	a.table.mu.Lock()
	defer a.table.mu.Unlock()
	left := slices.DeleteFunc(a.table.answers[a.serverName], func(each *TLSAnswer) bool { return each == a })
	if len(left) == 0 {
		delete(a.table.answers, a.serverName)
		return
	}
	a.table.answers[a.serverName] = left
}

// Len returns the number of published names.
func (t *TLSALPN) Len() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.answers)
}

// Config implements tls.Config.GetConfigForClient. It returns nil unless the client
// is a CA that validates.
func (t *TLSALPN) Config(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	if !slices.Equal(hello.SupportedProtos, t.config.NextProtos) {
		return nil, nil
	}
	return t.config, nil
}

func (t *TLSALPN) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	t.mu.RLock()
	var a *TLSAnswer
	if all := t.answers[strings.ToLower(hello.ServerName)]; len(all) > 0 {
		a = all[len(all)-1]
	}
	t.mu.RUnlock()
	if a == nil {
		return nil, errNoChallenge
	}
	a.SetFetched()
	return a.certificate, nil
}

// serverName returns the server name that a CA sends. It is the name itself, or the
// reverse name of an address, because SNI cannot contain addresses (RFC 8738,
// section 6).
func serverName(name string) string {
	addr, err := netip.ParseAddr(name)
	if err != nil {
		return strings.ToLower(name)
	}
	addr = addr.Unmap()
	var b strings.Builder
	if addr.Is4() {
		for _, octet := range slices.Backward(addr.AsSlice()) {
			fmt.Fprintf(&b, "%d.", octet)
		}
		return b.String() + "in-addr.arpa"
	}
	for _, octet := range slices.Backward(addr.AsSlice()) {
		fmt.Fprintf(&b, "%x.%x.", octet&0xf, octet>>4)
	}
	return b.String() + "ip6.arpa"
}

// challengeCertificate creates the self-signed certificate of RFC 8737, section 3.
// It contains the identifier alone, and the digest of the key authorization in a
// critical extension. Its key is not used for anything else.
func challengeCertificate(name, keyAuthorization string) (*tls.Certificate, error) {
	digest := sha256.Sum256([]byte(keyAuthorization))
	value, err := asn1.Marshal(digest[:])
	if err != nil {
		return nil, err
	}
	var key crypto.Signer
	if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:    big.NewInt(1),
		Subject:         pkix.Name{CommonName: "acmeproxy challenge"},
		NotBefore:       now.Add(-24 * time.Hour),
		NotAfter:        now.Add(24 * time.Hour),
		KeyUsage:        x509.KeyUsageDigitalSignature,
		ExtKeyUsage:     []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		ExtraExtensions: []pkix.Extension{{Id: idPeACMEIdentifier, Critical: true, Value: value}},
	}
	if ip := net.ParseIP(name); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{name}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}
