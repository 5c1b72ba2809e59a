package validation_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver/validation"
)

// acmeIdentifier returns the extension for a key authorization (RFC 8737, section 3).
func acmeIdentifier(t testing.TB, keyAuthorization string) pkix.Extension {
	t.Helper()
	sum := sha256.Sum256([]byte(keyAuthorization))
	value, err := asn1.Marshal(sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 31}, Critical: true, Value: value}
}

func selfSigned(t testing.TB, template x509.Certificate) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(1)
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// serveTLS makes handshakes at the addresses on one port, which becomes the world's port
// 443. It returns the last server name of a client.
func (w *world) serveTLS(t *testing.T, cfg *tls.Config, addrs ...string) (name *atomic.Value) {
	t.Helper()
	name = new(atomic.Value)
	cfg.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		name.Store(hello.ServerName)
		return nil, nil
	}
	port, listeners := listen(t, addrs...)
	for _, l := range listeners {
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					defer conn.Close()
					_ = tls.Server(conn, cfg).HandshakeContext(t.Context()) // the client reports its failure
				}()
			}
		}()
	}
	w.TLSPort = port
	return name
}

func (w *world) tlsALPN01(t *testing.T, id string) error {
	t.Helper()
	return validation.TLSALPN01{Network: w.Network}.Validate(t.Context(), validationOf(acme.TLSALPN01, id))
}

// A certificate for exactly the identifier with the digest is accepted (RFC 8737, and RFC
// 8738 for addresses; C23).
func TestTLSALPN01(t *testing.T) {
	t.Parallel()
	for id, want := range map[string]struct {
		template x509.Certificate
		sni      string
	}{
		"a.example.com": {x509.Certificate{DNSNames: []string{"A.example.com"}}, "a.example.com"},
		"127.0.0.1":     {x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}, "1.0.0.127.in-addr.arpa"},
		"::1": {
			x509.Certificate{IPAddresses: []net.IP{net.IPv6loopback}},
			"1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa",
		},
	} {
		w := newWorld(t, "a.example.com. A 127.0.0.1")
		want.template.ExtraExtensions = []pkix.Extension{acmeIdentifier(t, keyAuthorization)}
		name := w.serveTLS(t, &tls.Config{Certificates: []tls.Certificate{selfSigned(t, want.template)}, NextProtos: []string{"acme-tls/1"}}, "127.0.0.1", "::1")
		if err := w.tlsALPN01(t, id); err != nil {
			t.Errorf("%s: %v", id, err)
		}
		if name.Load() != want.sni {
			t.Errorf("%s: the server name is %v", id, name.Load())
		}
	}
}

// Each fault of the certificate or the handshake has its problem.
func TestTLSALPN01Wrong(t *testing.T) {
	t.Parallel()
	good := acmeIdentifier(t, keyAuthorization)
	optional, long := good, good
	optional.Critical = false
	long.Value = append(append([]byte{}, good.Value...), 0)
	names := []string{"a.example.com"}
	for name, test := range map[string]struct {
		template   x509.Certificate
		protocols  []string
		kind, text string
	}{
		"no extension":    {x509.Certificate{DNSNames: names}, nil, acme.Unauthorized, "no extension"},
		"another digest":  {x509.Certificate{DNSNames: names, ExtraExtensions: []pkix.Extension{acmeIdentifier(t, "x")}}, nil, acme.IncorrectResponse, "digest"},
		"not critical":    {x509.Certificate{DNSNames: names, ExtraExtensions: []pkix.Extension{optional}}, nil, acme.Unauthorized, "not critical"},
		"trailing data":   {x509.Certificate{DNSNames: names, ExtraExtensions: []pkix.Extension{long}}, nil, acme.IncorrectResponse, "digest"},
		"another name":    {x509.Certificate{DNSNames: []string{"b.example.com"}, ExtraExtensions: []pkix.Extension{good}}, nil, acme.Unauthorized, "subjectAltName"},
		"a second name":   {x509.Certificate{DNSNames: append(names, secret), ExtraExtensions: []pkix.Extension{good}}, nil, acme.Unauthorized, "subjectAltName"},
		"another kind":    {x509.Certificate{DNSNames: names, EmailAddresses: []string{"a@example.com"}, ExtraExtensions: []pkix.Extension{good}}, nil, acme.Unauthorized, "subjectAltName"},
		"an address":      {x509.Certificate{IPAddresses: []net.IP{{127, 0, 0, 1}}, ExtraExtensions: []pkix.Extension{good}}, nil, acme.Unauthorized, "subjectAltName"},
		"no name":         {x509.Certificate{Subject: pkix.Name{CommonName: "a.example.com"}, ExtraExtensions: []pkix.Extension{good}}, nil, acme.Unauthorized, "subjectAltName"},
		"wildcard":        {x509.Certificate{DNSNames: []string{"*.example.com"}, ExtraExtensions: []pkix.Extension{good}}, nil, acme.Unauthorized, "subjectAltName"},
		"other protocols": {x509.Certificate{DNSNames: names, ExtraExtensions: []pkix.Extension{good}}, []string{"h2"}, acme.TLS, "handshake"},
		"no protocol":     {x509.Certificate{DNSNames: names, ExtraExtensions: []pkix.Extension{good}}, []string{}, acme.Unauthorized, "acme-tls/1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if test.protocols == nil {
				test.protocols = []string{"acme-tls/1"}
			}
			w := newWorld(t, "a.example.com. A 127.0.0.1")
			w.serveTLS(t, &tls.Config{Certificates: []tls.Certificate{selfSigned(t, test.template)}, NextProtos: test.protocols}, "127.0.0.1")
			wantProblem(t, w.tlsALPN01(t, "a.example.com"), test.kind, test.text)
		})
	}
}

// A server without TLS, an old or silent one, and a forbidden address are problems.
func TestTLSALPN01Connection(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a.example.com. A 127.0.0.1", "inside.example.com. A 127.0.0.99")
	template := x509.Certificate{DNSNames: []string{"a.example.com"}, ExtraExtensions: []pkix.Extension{acmeIdentifier(t, keyAuthorization)}}
	w.serveTLS(t, &tls.Config{
		Certificates: []tls.Certificate{selfSigned(t, template)}, NextProtos: []string{"acme-tls/1"},
		MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11,
	}, "127.0.0.1")
	wantProblem(t, w.tlsALPN01(t, "a.example.com"), acme.TLS, "handshake fails")
	wantProblem(t, w.tlsALPN01(t, "inside.example.com"), acme.DNS, "connects to")
	wantProblem(t, w.tlsALPN01(t, "127.0.0.99"), acme.Connection, "does not connect")
	w.serveHTTP(t, []string{"127.0.0.1"}, correct)
	w.TLSPort = w.HTTPPort
	wantProblem(t, w.tlsALPN01(t, "a.example.com"), acme.TLS, "handshake fails")
	port, listeners := listen(t, "127.0.0.1")
	w.TLSPort, w.Timeout = port, 50*time.Millisecond
	wantProblem(t, w.tlsALPN01(t, "a.example.com"), acme.TLS, "in time") // no process accepts
	listeners[0].Close()
	w.Timeout = 0
	wantProblem(t, w.tlsALPN01(t, "a.example.com"), acme.Connection, "refused")
}
