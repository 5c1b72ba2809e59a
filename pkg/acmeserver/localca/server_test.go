package localca_test

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acmeserver/localca"
)

// A TLS server has a certificate of the CA, another one in time, and one of the new
// generation after a rotation.
func TestGetCertificate(t *testing.T) {
	t.Parallel()
	now := time.Now()
	ca := open(t, localca.Config{Now: func() time.Time { return now }})
	get := ca.GetCertificate("localhost", "127.0.0.1")
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca.Root())
	handshake := func(name string) *x509.Certificate {
		t.Helper()
		here, there := net.Pipe()
		defer here.Close()
		defer there.Close()
		go func() { _ = tls.Server(there, &tls.Config{GetCertificate: get}).HandshakeContext(t.Context()) }() // the client reports its failure
		client := tls.Client(here, &tls.Config{RootCAs: roots, ServerName: name, Time: func() time.Time { return now }})
		if err := client.HandshakeContext(t.Context()); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return client.ConnectionState().PeerCertificates[0]
	}
	first := handshake("localhost")
	if again := handshake("127.0.0.1"); !again.Equal(first) {
		t.Error("another certificate without a reason")
	}
	now = now.Add(61 * 24 * time.Hour)
	second := handshake("localhost")
	if second.Equal(first) {
		t.Error("no other certificate after two thirds of the lifetime")
	}
	if err := ca.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if third := handshake("localhost"); third.Issuer.String() == second.Issuer.String() {
		t.Errorf("after the rotation by %s", third.Issuer)
	}
}
