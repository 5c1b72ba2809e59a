package cert_test

import (
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
)

func oid(id ...int) asn1.ObjectIdentifier { return id }

// plainAttribute is a PKCS#10 attribute with one value.
func plainAttribute(t testing.TB, id asn1.ObjectIdentifier, value []byte) []byte {
	t.Helper()
	return der(t, []asn1.RawValue{{FullBytes: der(t, id)}, raw(0x31, value)})
}

// windowsAttributes are those that certreq and the IIS manager add: the version
// of Windows, who made the request with which program, and the provider of the key.
func windowsAttributes(t testing.TB) []byte {
	t.Helper()
	var provider []byte
	for _, unit := range utf16.Encode([]rune("Microsoft RSA SChannel Cryptographic Provider")) {
		provider = append(provider, byte(unit>>8), byte(unit))
	}
	text := func(s string) asn1.RawValue { return raw(0x0c, []byte(s)) }
	return slices.Concat(
		plainAttribute(t, oid(1, 3, 6, 1, 4, 1, 311, 13, 2, 3), der(t, raw(0x16, []byte("10.0.20348.2")))),
		plainAttribute(t, oid(1, 3, 6, 1, 4, 1, 311, 21, 20), der(t, []asn1.RawValue{
			{FullBytes: der(t, 5)}, text("WEB1.corp.example"), text(`CORP\Administrator`), text("InetMgr.exe"),
		})),
		plainAttribute(t, oid(1, 3, 6, 1, 4, 1, 311, 13, 2, 2), der(t, []asn1.RawValue{
			{FullBytes: der(t, 1)}, raw(0x1e, provider), {FullBytes: der(t, asn1.BitString{Bytes: make([]byte, 137), BitLength: 8 * 137})},
		})),
	)
}

// windowsExtensions are those that the IIS manager asks for.
func windowsExtensions(t testing.TB, more ...pkix.Extension) []pkix.Extension {
	t.Helper()
	return append([]pkix.Extension{
		{Id: oid(2, 5, 29, 15), Critical: true, Value: []byte{3, 2, 4, 0xf0}},
		{Id: oid(2, 5, 29, 37), Value: der(t, []asn1.ObjectIdentifier{oid(1, 3, 6, 1, 5, 5, 7, 3, 1)})},
		{Id: oid(1, 2, 840, 113549, 1, 9, 15), Value: der(t, [][]asn1.RawValue{{{FullBytes: der(t, oid(1, 2, 840, 113549, 3, 7))}}})},
		{Id: oid(2, 5, 29, 14), Value: der(t, make([]byte, 20))},
	}, more...)
}

// What IIS and certreq write is accepted as a new request.
func TestWindowsRequests(t *testing.T) {
	t.Parallel()
	key := ecKey(t, elliptic.P256())
	subject := der(t, pkix.Name{
		Country: []string{"DE"}, Province: []string{"Berlin"}, Locality: []string{"Berlin"}, Organization: []string{"Example"},
		OrganizationalUnit: []string{"IT"}, CommonName: "web1.example.com",
	}.ToRDNSequence())
	names := san(t, dns("web1.example.com"), dns("www.example.com"))
	template := pkix.Extension{Id: oid(1, 3, 6, 1, 4, 1, 311, 20, 2), Value: der(t, raw(0x1e, []byte{0, 'W', 0, 'e', 0, 'b'}))}
	policies := pkix.Extension{Id: oid(1, 3, 6, 1, 4, 1, 311, 21, 10), Value: der(t, [][]asn1.ObjectIdentifier{{oid(1, 3, 6, 1, 5, 5, 7, 3, 1)}})}
	for name, c := range map[string]struct {
		attributes []byte
		want       string
	}{
		"IIS manager": {slices.Concat(windowsAttributes(t), attribute(t, oidExtRequest, windowsExtensions(t))), "web1.example.com"},
		"certreq": {
			slices.Concat(attribute(t, oidExtRequest, windowsExtensions(t, names, template, policies)), windowsAttributes(t)),
			"web1.example.com www.example.com",
		},
		"older certreq": {
			slices.Concat(attribute(t, oidMSExtension, windowsExtensions(t, names)), windowsAttributes(t), attribute(t, oidExtRequest, windowsExtensions(t, names))),
			"web1.example.com www.example.com",
		},
	} {
		csr, err := cert.ParseCSR(sign(t, key, subject, c.attributes))
		if err == nil {
			err = csr.CheckNew()
		}
		if err != nil || csr.Names.String() != c.want {
			t.Errorf("%s: %+v, %v", name, csr, err)
		}
	}
	// Microsoft's older attribute must hide nothing.
	good := attribute(t, oidExtRequest, windowsExtensions(t, names))
	for want, hidden := range map[string]pkix.Extension{
		"CAs do not read": san(t, dns("web1.example.com"), dns("evil.example.com")),
		"kind 0":          san(t, raw(0xa0, nil)),
		"basicConstraint": {Id: oid(2, 5, 29, 19), Value: der(t, struct{ CA bool }{true})},
		"must-staple":     {Id: oid(1, 3, 6, 1, 5, 5, 7, 1, 24), Value: []byte{0x30, 3, 2, 1, 5}},
		"311.25.2":        {Id: oid(1, 3, 6, 1, 4, 1, 311, 25, 2), Value: der(t, "S-1-5-21")}, // a user of Active Directory
	} {
		refused(t, want, sign(t, key, subject, slices.Concat(attribute(t, oidMSExtension, []pkix.Extension{hidden}), good)), want)
		if !strings.HasPrefix(want, "CAs") {
			refused(t, want, sign(t, key, subject, attribute(t, oidExtRequest, windowsExtensions(t, hidden))), want)
		}
	}
}

// xca is the configuration with which OpenSSL writes what XCA's template for an
// HTTPS server does.
const xca = `
[req]
distinguished_name = dn
req_extensions = ext
prompt = no
[dn]
O = Example
CN = web1.example.com
[ext]
basicConstraints = critical,CA:FALSE
subjectKeyIdentifier = hash
keyUsage = critical,digitalSignature,nonRepudiation,keyEncipherment,keyAgreement
extendedKeyUsage = serverAuth,clientAuth
nsCertType = server
nsComment = "xca certificate"
crlDistributionPoints = URI:http://crl.example.com/ca.crl
authorityInfoAccess = OCSP;URI:http://ocsp.example.com
certificatePolicies = 1.2.3.4
subjectAltName = DNS:web1.example.com,IP:192.0.2.1
`

// What XCA writes is accepted; RSA-PSS is refused with the true reason.
func TestXCAAndPSS(t *testing.T) {
	t.Parallel()
	openssl := pebbletest.Tool(t, "openssl")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "xca.cnf"), []byte(xca), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args []string
		want string // empty: accepted
	}{
		"rsa":            {[]string{"-newkey", "rsa:2048"}, ""},
		"ec":             {[]string{"-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"}, ""},
		"SHA-512":        {[]string{"-newkey", "rsa:2048", "-sha512"}, ""},
		"PSS":            {[]string{"-newkey", "rsa:2048", "-sigopt", "rsa_padding_mode:pss"}, "signed with RSA-PSS, which CAs refuse; sign it with RSA PKCS #1 v1.5"},
		"PSS SHA-384":    {[]string{"-newkey", "rsa:2048", "-sha384", "-sigopt", "rsa_padding_mode:pss"}, "signed with RSA-PSS"},
		"key for PSS":    {[]string{"-newkey", "rsa-pss", "-pkeyopt", "rsa_keygen_bits:2048"}, "the key is for RSA-PSS only, which CAs refuse"},
		"SHA-3":          {[]string{"-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-sha3-256"}, "an algorithm that CAs refuse"},
		"MD5":            {[]string{"-newkey", "rsa:2048", "-md5"}, "an algorithm that CAs refuse"},
		"client":         {[]string{"-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-reqexts", "client"}, "not for servers"},
		"CA of its own":  {[]string{"-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-reqexts", "ca"}, "CA certificate"},
		"user principal": {[]string{"-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-reqexts", "upn"}, "kind 0"},
	} {
		config := xca + "[client]\nextendedKeyUsage = clientAuth\nsubjectAltName = DNS:web1.example.com\n[ca]\nbasicConstraints = CA:TRUE\n" +
			"[upn]\nsubjectAltName = DNS:web1.example.com,otherName:1.3.6.1.4.1.311.20.2.3;UTF8:admin@example.com\n"
		if err := os.WriteFile(filepath.Join(dir, "req.cnf"), []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), openssl, append([]string{"req", "-new", "-nodes", "-config", "req.cnf", "-keyout", "key.pem", "-out", "csr.pem"}, c.args...)...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
		data, err := os.ReadFile(filepath.Join(dir, "csr.pem"))
		if err != nil {
			t.Fatal(err)
		}
		req, err := cert.ParseRequest(nil, string(data), "")
		if c.want == "" {
			if err != nil || req.Names.String() != "192.0.2.1 web1.example.com" {
				t.Errorf("%s: %+v, %v", name, req, err)
			}
			continue
		}
		var field *cert.FieldError
		if !errors.As(err, &field) || field.Field != "csr" || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want csr: … %q", name, err, c.want)
		}
	}
}

// A new request that a CA would refuse after the order is refused before it;
// a stored one that a CA took is still read.
func TestCheckNew(t *testing.T) {
	t.Parallel()
	subject := func(cn string) pkix.Name { return pkix.Name{CommonName: cn} }
	names := []string{"a.example", "*.b.example"}
	for name, c := range map[string]struct {
		template x509.CertificateRequest
		want     string // empty: accepted
	}{
		"CN only":          {x509.CertificateRequest{Subject: subject("A.example")}, ""},
		"CN in capitals":   {x509.CertificateRequest{Subject: subject("A.Example"), DNSNames: names}, ""},
		"SAN in capitals":  {x509.CertificateRequest{Subject: subject("a.example"), DNSNames: []string{"A.EXAMPLE"}}, ""},
		"CN is wildcard":   {x509.CertificateRequest{Subject: subject("*.b.example"), DNSNames: names}, ""},
		"CN is an address": {x509.CertificateRequest{Subject: subject("2001:DB8:0::1"), IPAddresses: []net.IP{net.ParseIP("2001:db8::1")}}, ""},
		"punycode":         {x509.CertificateRequest{DNSNames: []string{"xn--bcher-kva.example"}}, ""},

		"CN outside":         {x509.CertificateRequest{Subject: subject("c.example"), DNSNames: names}, `common name: "c.example" is not in the subjectAltName; add it there, or leave`},
		"CN below wildcard":  {x509.CertificateRequest{Subject: subject("x.b.example"), DNSNames: names}, `"x.b.example" is not in the subjectAltName`},
		"address outside":    {x509.CertificateRequest{Subject: subject("192.0.2.1"), DNSNames: names}, `"192.0.2.1" is not in the subjectAltName`},
		"CN beside address":  {x509.CertificateRequest{Subject: subject("a.example"), IPAddresses: []net.IP{{192, 0, 2, 1}}}, `"a.example" is not in the subjectAltName`},
		"full stop in SAN":   {x509.CertificateRequest{DNSNames: []string{"a.example."}}, `subjectAltName: "a.example." ends with a full stop, which CAs refuse; write a.example`},
		"full stop in CN":    {x509.CertificateRequest{Subject: subject("a.example."), DNSNames: names}, `common name: "a.example." ends with a full stop`},
		"CN not in IDNA":     {x509.CertificateRequest{Subject: subject("bücher.example"), DNSNames: []string{"xn--bcher-kva.example"}}, `write xn--bcher-kva.example`},
		"second CN is wrong": {x509.CertificateRequest{RawSubject: der(t, pkix.RDNSequence{{{Type: oidCN, Value: "c.example"}}, {{Type: oidCN, Value: "a.example"}}}), DNSNames: names}, `"c.example" is not in`},
	} {
		b, err := x509.CreateCertificateRequest(rand.Reader, &c.template, ecKey(t, elliptic.P256()))
		if err != nil {
			t.Fatal(err)
		}
		csr, err := cert.ParseCSR(b)
		if err != nil {
			t.Errorf("%s: a stored request is refused: %v", name, err)
			continue
		}
		err = csr.CheckNew()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}
