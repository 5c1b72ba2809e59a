package responder

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
)

// handshake does a handshake as a CA or another client, and returns its result.
func handshake(t testing.TB, server *tls.Config, client *tls.Config) (tls.ConnectionState, error) {
	t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	done := make(chan error, 1)
	go func() {
		s := tls.Server(b, server)
		done <- s.HandshakeContext(t.Context())
		b.Close()
	}()
	client.InsecureSkipVerify = true
	c := tls.Client(a, client)
	err := c.HandshakeContext(t.Context())
	if err == nil {
		if err = <-done; err != nil {
			err = fmt.Errorf("server: %w", err)
		}
	}
	return c.ConnectionState(), err
}

// api returns the configuration of a server that has another service as well.
func api(t testing.TB, answers *TLSALPN) *tls.Config {
	t.Helper()
	other, err := challengeCertificate("api.example.com", "")
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{"h2", "http/1.1"},
		Certificates: []tls.Certificate{*other}, GetConfigForClient: answers.Config,
	}
}

// RFC 8737, section 3, and RFC 8738, section 6.
func TestTLSALPN(t *testing.T) {
	answers := NewTLSALPN()
	server := api(t, answers)
	for name, sni := range map[string]string{
		"www.example.com": "WWW.example.com",
		"192.0.2.1":       "1.2.0.192.in-addr.arpa",
		"2001:db8::1":     "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa",
	} {
		a, err := answers.Put(name, "token.thumbprint")
		if err != nil {
			t.Fatal(err)
		}
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			state, err := handshake(t, server, &tls.Config{ServerName: sni, NextProtos: []string{ALPN}, MaxVersion: version})
			if err != nil || state.NegotiatedProtocol != ALPN {
				t.Fatalf("%s: %v, protocol %q", name, err, state.NegotiatedProtocol)
			}
			checkChallenge(t, state.PeerCertificates[0], name)
		}
		select {
		case <-a.Fetched():
		default:
			t.Errorf("%s: not fetched", name)
		}
		a.Remove()
		a.Remove()
		if _, err := handshake(t, server, &tls.Config{ServerName: sni, NextProtos: []string{ALPN}}); err == nil {
			t.Errorf("%s is still answered", name)
		}
	}
	if answers.Len() != 0 {
		t.Error("something is left")
	}
}

func checkChallenge(t testing.TB, c *x509.Certificate, name string) {
	t.Helper()
	if names := fmt.Sprint(c.DNSNames, c.IPAddresses); names != fmt.Sprintf("[%s] []", name) && names != fmt.Sprintf("[] [%s]", name) {
		t.Errorf("it is for %s, want %s", names, name)
	}
	want := sha256.Sum256([]byte("token.thumbprint"))
	for _, e := range c.Extensions {
		var digest []byte
		if !e.Id.Equal(idPeACMEIdentifier) {
			continue
		}
		if _, err := asn1.Unmarshal(e.Value, &digest); err != nil || string(digest) != string(want[:]) || !e.Critical {
			t.Errorf("extension %+v, %v", e, err)
		}
		return
	}
	t.Error("no acmeIdentifier")
}

// Other clients get the server's own service, with or without a published challenge.
func TestTLSALPNForOthers(t *testing.T) {
	answers := NewTLSALPN()
	server := api(t, answers)
	a, err := answers.Put("www.example.com", "token.thumbprint")
	if err != nil {
		t.Fatal(err)
	}
	defer a.Remove()
	for _, protos := range [][]string{nil, {"h2", "http/1.1"}, {"http/1.1", ALPN}, {ALPN, "h2"}} {
		state, err := handshake(t, server, &tls.Config{ServerName: "www.example.com", NextProtos: protos})
		if err != nil || state.PeerCertificates[0].DNSNames[0] != "api.example.com" || state.NegotiatedProtocol == ALPN {
			t.Errorf("%q: %v, %v", protos, state.PeerCertificates[0].DNSNames, err)
		}
	}
	if _, err := handshake(t, server, &tls.Config{ServerName: "www.example.com", MaxVersion: tls.VersionTLS12}); err == nil {
		t.Error("a client that is not a CA could use TLS 1.2")
	}
	for _, sni := range []string{"", "other.example.com"} {
		if _, err := handshake(t, server, &tls.Config{ServerName: sni, NextProtos: []string{ALPN}}); err == nil || strings.Contains(err.Error(), "server: ") {
			t.Errorf("%q: %v; want it refused", sni, err)
		}
	}
	select {
	case <-a.Fetched():
		t.Error("fetched without a request")
	default:
	}
}

// The newer of two answers hides the older one until it is removed, for many
// concurrent pairs.
func TestTLSALPNConcurrently(t *testing.T) {
	answers := NewTLSALPN()
	server := api(t, answers)
	old, err := answers.Put("a.example.com", "old")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := answers.Put("a.example.com", "token.thumbprint"); err != nil {
		t.Fatal(err)
	}
	old.Remove()
	hides, err := answers.Put("a.example.com", "hides")
	if err != nil {
		t.Fatal(err)
	}
	hides.Remove()
	hides.Remove()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			name := fmt.Sprintf("n%d.example.com", i)
			a, err := answers.Put(name, "token.thumbprint")
			if err != nil {
				t.Error(err)
				return
			}
			defer a.Remove()
			for _, name := range []string{name, "a.example.com"} {
				state, err := handshake(t, server, &tls.Config{ServerName: name, NextProtos: []string{ALPN}})
				if err != nil {
					t.Error(err)
					return
				}
				checkChallenge(t, state.PeerCertificates[0], name)
			}
		})
	}
	wg.Wait()
}
