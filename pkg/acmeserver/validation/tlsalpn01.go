package validation

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"net"
	"net/netip"
	"strings"

	"github.com/miekg/dns"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
)

// TLSALPN01 validates tls-alpn-01 (RFC 8737, and RFC 8738 for IP addresses). It tries the
// addresses of the name in turn until one accepts a connection.
type TLSALPN01 struct{ Network }

// alpn is the protocol of the challenge (RFC 8737, section 6.2).
const alpn = "acme-tls/1"

// Validate implements acmeserver.Validator.
func (a TLSALPN01) Validate(ctx context.Context, v acmeserver.Validation) error {
	return a.attempt(ctx, v, func(ctx context.Context) *fault {
		if f := forName(v); f != nil {
			return f
		}
		name, err := serverName(v.Identifier)
		if err != nil {
			return &fault{kind: acme.Malformed, detail: "the identifier is not an IP address", final: true}
		}
		conn, f := a.connect(ctx, v.Identifier.Value, "443")
		if f != nil {
			return f
		}
		secured, f := handshake(ctx, conn, &tls.Config{
			ServerName: name, NextProtos: []string{alpn}, MinVersion: tls.VersionTLS12,
			InsecureSkipVerify: true, //nolint:gosec // the certificate is self-signed (RFC 8737, section 3)
		})
		if f != nil {
			return f
		}
		state := secured.ConnectionState()
		conn.Close() // the handshake said it all
		if state.NegotiatedProtocol != alpn || len(state.PeerCertificates) == 0 {
			return &fault{kind: acme.Unauthorized, detail: "the server does not speak the protocol " + alpn}
		}
		return checkCertificate(state.PeerCertificates[0], v.Identifier, v.KeyAuthorization)
	})
}

// serverName returns the server name of the handshake: the name, or the one in the
// reverse zone for an address (RFC 8738, section 6).
func serverName(id acme.Identifier) (string, error) {
	if id.Type != acme.TypeIP {
		return id.Value, nil
	}
	name, err := dns.ReverseAddr(id.Value)
	return strings.TrimSuffix(name, "."), err
}

// handshake secures a connection, or closes it.
func handshake(ctx context.Context, conn net.Conn, cfg *tls.Config) (*tls.Conn, *fault) {
	secured := tls.Client(conn, cfg)
	if err := secured.HandshakeContext(ctx); err != nil {
		conn.Close()
		detail := "the TLS handshake fails"
		if text := describe(err); text != "the connection fails" {
			detail += ": " + text
		}
		return nil, &fault{kind: acme.TLS, detail: detail}
	}
	return secured, nil
}

var (
	oidIdentifier     = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 31} // RFC 8737, section 6.1
	oidSubjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}
)

// checkCertificate returns what a certificate lacks for the challenge (RFC 8737,
// section 3).
func checkCertificate(c *x509.Certificate, id acme.Identifier, keyAuthorization string) *fault {
	digest := sha256.Sum256([]byte(keyAuthorization))
	want, err := asn1.Marshal(digest[:])
	if err != nil {
		return &fault{kind: acme.ServerInternal, detail: "the expected extension cannot be encoded", final: true}
	}
	if !hasOnlyName(c, id) {
		return &fault{kind: acme.Unauthorized, detail: "the subjectAltName of the certificate is not exactly the identifier"}
	}
	found := false
	for _, e := range c.Extensions {
		switch {
		case !e.Id.Equal(oidIdentifier):
		case found || !e.Critical:
			return &fault{kind: acme.Unauthorized, detail: "the extension acmeIdentifier of the certificate occurs twice or is not critical"}
		case !bytes.Equal(e.Value, want):
			return &fault{kind: acme.IncorrectResponse, detail: "the extension acmeIdentifier is not the digest of the key authorization of this challenge and account"}
		default:
			found = true
		}
	}
	if !found {
		return &fault{kind: acme.Unauthorized, detail: "the certificate has no extension acmeIdentifier"}
	}
	return nil
}

// hasOnlyName reports whether the certificate's only subjectAltName is the identifier.
func hasOnlyName(c *x509.Certificate, id acme.Identifier) bool {
	const dnsTag, ipTag = 2, 7 // RFC 5280, section 4.2.1.6
	name := asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: dnsTag}
	if id.Type == acme.TypeIP {
		addr, err := netip.ParseAddr(id.Value)
		if err != nil {
			return false
		}
		name.Tag, name.Bytes = ipTag, addr.Unmap().AsSlice()
	} else {
		if len(c.DNSNames) != 1 || !strings.EqualFold(c.DNSNames[0], id.Value) {
			return false
		}
		name.Bytes = []byte(c.DNSNames[0])
	}
	want, err := asn1.Marshal([]asn1.RawValue{name})
	found := 0
	for _, e := range c.Extensions {
		if e.Id.Equal(oidSubjectAltName) {
			found++
			if !bytes.Equal(e.Value, want) {
				return false
			}
		}
	}
	return err == nil && found == 1
}
