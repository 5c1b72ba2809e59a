package validation

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
)

// No Location leads anywhere but to a port for HTTP, and no request has a password.
func FuzzRedirect(f *testing.F) {
	for _, location := range []string{
		"/x", "//b.example.com/", "https://b.example.com:443/x#y", "http://u:p@b.example.com", "ftp://b", "http://[::1]:80/", "http://[fe80::1%25eth0]/",
		"?a", "", "http:x", "http://b:22/", "//", "http://b:0080/", "javascript:x", "HTTP://B/",
	} {
		f.Add(location)
	}
	h := HTTP01{Network{HTTPPort: 5002, TLSPort: 5001}}
	f.Fuzz(func(t *testing.T, location string) {
		from := &url.URL{Scheme: "http", Host: "a.example.com", Path: wellKnown + "x"}
		next, fault := h.redirect(from, location)
		if fault != nil {
			if next != nil || strings.Contains(fault.detail, "example") {
				t.Errorf("%q: %v, %v", location, next, fault)
			}
			return
		}
		if next.Scheme != "http" && next.Scheme != "https" || next.Hostname() == "" || next.User != nil ||
			!slices.Contains([]string{"", "80", "443", "5002", "5001"}, next.Port()) {
			t.Errorf("%q leads to %s", location, next)
		}
	})
}

// Only a certificate whose one name is the identifier is accepted.
func FuzzCertificate(f *testing.F) {
	f.Add([]byte{0x30, 0x00}, "a.example.com")
	f.Add([]byte{0x30, 0x0f, 0x82, 0x0d, 'a', '.', 'e', 'x', 'a', 'm', 'p', 'l', 'e', '.', 'c', 'o', 'm'}, "a.example.com")
	f.Add([]byte{0x30, 0x06, 0x87, 0x04, 127, 0, 0, 1}, "127.0.0.1")
	f.Fuzz(func(t *testing.T, san []byte, name string) {
		for _, kind := range []string{acme.TypeDNS, acme.TypeIP} {
			c := &x509.Certificate{DNSNames: []string{name}}
			c.Extensions = append(c.Extensions, extension(san))
			id := acme.Identifier{Type: kind, Value: name}
			if hasOnlyName(c, id) && !strings.Contains(string(san), name) && kind == acme.TypeDNS {
				t.Errorf("%x is accepted for %q", san, name)
			}
			if f := checkCertificate(c, id, "x"); f == nil {
				t.Errorf("%x is accepted without the extension", san)
			}
		}
	})
}

func extension(san []byte) pkix.Extension {
	return pkix.Extension{Id: oidSubjectAltName, Value: san}
}
