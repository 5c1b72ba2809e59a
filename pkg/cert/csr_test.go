package cert_test

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/cryptobyte"
	cryptobyte_asn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
)

var (
	oidSAN         = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidCN          = asn1.ObjectIdentifier{2, 5, 4, 3}
	oidExtRequest  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 14}
	oidMSExtension = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 1, 14}
)

func der(t testing.TB, v any) []byte {
	t.Helper()
	b, err := asn1.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// raw is one DER element with the given identifier octet.
func raw(tag byte, content []byte) asn1.RawValue {
	return asn1.RawValue{Class: int(tag >> 6), Tag: int(tag & 31), IsCompound: tag&0x20 != 0, Bytes: content}
}

// san is a subjectAltName of any general names.
func san(t testing.TB, names ...asn1.RawValue) pkix.Extension {
	t.Helper()
	return pkix.Extension{Id: oidSAN, Value: der(t, names)}
}

func dns(name string) asn1.RawValue { return raw(0x82, []byte(name)) }

// attribute is a PKCS#10 attribute with these lists of extensions as values.
func attribute(t testing.TB, id asn1.ObjectIdentifier, values ...[]pkix.Extension) []byte {
	t.Helper()
	var set []byte
	for _, v := range values {
		set = append(set, der(t, v)...)
	}
	return der(t, []asn1.RawValue{{FullBytes: der(t, id)}, raw(0x31, set)})
}

// sign makes a CSR of raw parts: the subject's DER and the content of the
// attributes.
func sign(t testing.TB, key crypto.Signer, subject, attributes []byte) []byte {
	t.Helper()
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	info := der(t, []asn1.RawValue{{FullBytes: der(t, 0)}, {FullBytes: subject}, {FullBytes: public}, raw(0xa0, attributes)})
	sum := sha256.Sum256(info)
	signature, err := key.Sign(rand.Reader, sum[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	return der(t, struct {
		Info      asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}{
		asn1.RawValue{FullBytes: info},
		pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}}, // ecdsa-with-SHA256
		asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)},
	})
}

// emptySubject is an RDNSequence without elements.
var emptySubject = []byte{0x30, 0}

// makeCSR signs a template with a P-256 key.
func makeCSR(t testing.TB, template x509.CertificateRequest) []byte {
	t.Helper()
	b, err := x509.CreateCertificateRequest(rand.Reader, &template, ecKey(t, elliptic.P256()))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestCSRRoundTrip(t *testing.T) { // M48
	names, err := cert.ParseNames("a.example", "*.b.example", "192.0.2.1", "2001:db8::1")
	if err != nil {
		t.Fatal(err)
	}
	for _, kt := range []cert.KeyType{cert.EC256, cert.EC384, cert.RSA2048} {
		key := generate(t, kt)
		b, err := cert.NewCSR(key, names)
		if err != nil {
			t.Fatal(err)
		}
		for _, in := range [][]byte{
			b,
			pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: b}),
			pem.EncodeToMemory(&pem.Block{Type: "NEW CERTIFICATE REQUEST", Bytes: b}),
		} {
			csr, err := cert.ParseCSR(in)
			if err != nil {
				t.Fatal(err)
			}
			if !csr.Names.Equal(names) || csr.KeyType != kt || !cert.SameKey(csr.Public, key.Public()) || !bytes.Equal(csr.DER, b) {
				t.Errorf("%s: %+v", kt, csr)
			}
		}
	}
}

// subject encodes a subject of these values.
func subject(t *testing.T, values ...pkix.AttributeTypeAndValue) []byte {
	t.Helper()
	var seq pkix.RDNSequence
	for _, v := range values {
		seq = append(seq, pkix.RelativeDistinguishedNameSET{v})
	}
	return der(t, seq)
}

func TestParseCSRAccepts(t *testing.T) { // M20
	boolean := func(b bool) []byte { return der(t, struct{ CA bool }{b}) }
	for name, c := range map[string]struct {
		template x509.CertificateRequest
		want     string
	}{
		"CN only":              {x509.CertificateRequest{Subject: pkix.Name{CommonName: "A.example"}}, "a.example"},
		"CN among the SANs":    {x509.CertificateRequest{Subject: pkix.Name{CommonName: "b.example"}, DNSNames: []string{"B.example", "a.example."}}, "a.example b.example"},
		"CN beside the SANs":   {x509.CertificateRequest{Subject: pkix.Name{CommonName: "c.example"}, DNSNames: []string{"a.example"}}, "a.example c.example"},
		"CN is an address":     {x509.CertificateRequest{Subject: pkix.Name{CommonName: "192.0.2.1"}, IPAddresses: []net.IP{net.IPv4(192, 0, 2, 1)}}, "192.0.2.1"},
		"empty CN":             {x509.CertificateRequest{RawSubject: der(t, pkix.RDNSequence{{{Type: oidCN, Value: ""}}}), DNSNames: []string{"a.example"}}, "a.example"},
		"e-mail in a subject":  {x509.CertificateRequest{RawSubject: subject(t, pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}, Value: "root@a.example"}), DNSNames: []string{"a.example"}}, "a.example"},
		"organization":         {x509.CertificateRequest{Subject: pkix.Name{Organization: []string{"Widgits & Co"}}, DNSNames: []string{"a.example"}}, "a.example"},
		"mapped address":       {x509.CertificateRequest{ExtraExtensions: []pkix.Extension{san(t, raw(0x87, net.ParseIP("::ffff:192.0.2.1").To16()))}}, "192.0.2.1"},
		"no basic constraints": {x509.CertificateRequest{DNSNames: []string{"a.example"}, ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 19}, Value: emptySubject}}}, "a.example"},
		"CA:FALSE":             {x509.CertificateRequest{DNSNames: []string{"a.example"}, ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 19}, Value: boolean(false)}}}, "a.example"},
		"key usage":            {x509.CertificateRequest{DNSNames: []string{"a.example"}, ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 15}, Value: []byte{3, 2, 5, 160}}}}, "a.example"},
	} {
		csr, err := cert.ParseCSR(makeCSR(t, c.template))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if csr.Names.String() != c.want {
			t.Errorf("%s: %s, want %s", name, csr.Names, c.want)
		}
	}
}

// A byte order mark, which editors on Windows write, is no part of the CSR.
func TestParseCSRAfterByteOrderMark(t *testing.T) {
	want := makeCSR(t, x509.CertificateRequest{DNSNames: []string{"a.example"}})
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: want})
	const bom = "\ufeff"
	for name, data := range map[string]string{
		"PEM": bom + string(text), "PEM, CRLF": bom + strings.ReplaceAll(string(text), "\n", "\r\n"), "DER": bom + string(want),
	} {
		if csr, err := cert.ParseCSR([]byte(data)); err != nil || !bytes.Equal(csr.DER, want) {
			t.Errorf("%s: %+v, %v", name, csr, err)
		}
	}
	if _, err := cert.ParseCSR([]byte(bom)); err == nil {
		t.Error("accepted a mark alone")
	}
}

// Whatever the decision over Names would not cover is refused, with a word on
// what to do about it (C15).
func TestParseCSRRefusesIdentifiers(t *testing.T) {
	extension := func(value []byte, id ...int) x509.CertificateRequest {
		return x509.CertificateRequest{DNSNames: []string{"a.example"}, ExtraExtensions: []pkix.Extension{{Id: id, Value: value}}}
	}
	sans := func(names ...asn1.RawValue) x509.CertificateRequest {
		return x509.CertificateRequest{ExtraExtensions: []pkix.Extension{san(t, append(names, dns("a.example"))...)}}
	}
	otherName := raw(0xa0, append(der(t, asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2, 3}), der(t, raw(0xa0, der(t, "root@evil.example")))...))
	for name, c := range map[string]struct {
		template x509.CertificateRequest
		want     string
	}{
		"no name":             {x509.CertificateRequest{}, "no name given"},
		"e-mail":              {x509.CertificateRequest{DNSNames: []string{"a.example"}, EmailAddresses: []string{"root@a.example"}}, "e-mail"},
		"URI":                 {x509.CertificateRequest{DNSNames: []string{"a.example"}, URIs: []*url.URL{{Scheme: "spiffe", Host: "a.example"}}}, "URIs"},
		"CN with blanks":      {x509.CertificateRequest{Subject: pkix.Name{CommonName: "Web Server"}, DNSNames: []string{"a.example"}}, `common name: "Web Server"`},
		"CN with a margin":    {x509.CertificateRequest{Subject: pkix.Name{CommonName: " a.example "}}, "common name"},
		"CN is not text":      {x509.CertificateRequest{RawSubject: subject(t, pkix.AttributeTypeAndValue{Type: oidCN, Value: 7}), DNSNames: []string{"a.example"}}, "common name"},
		"first CN bad":        {x509.CertificateRequest{RawSubject: subject(t, pkix.AttributeTypeAndValue{Type: oidCN, Value: "no name"}, pkix.AttributeTypeAndValue{Type: oidCN, Value: "a.example"})}, "common name"},
		"address as DNS name": {x509.CertificateRequest{DNSNames: []string{"192.0.2.1"}}, "write it as IP"},
		"underscore":          {x509.CertificateRequest{DNSNames: []string{"a_b.example"}}, "a_b.example"},
		"otherName":           {sans(otherName), "kind 0"},
		"x400Address":         {sans(raw(0xa3, nil)), "kind 3"},
		"directoryName":       {sans(raw(0xa4, emptySubject)), "kind 4"},
		"ediPartyName":        {sans(raw(0xa5, nil)), "kind 5"},
		"registeredID":        {sans(raw(0x88, []byte{0x2a, 3})), "kind 8"},
		"unknown kind":        {sans(raw(0x9e, nil)), "kind 30"},
		"name in pieces":      {sans(raw(0xa2, der(t, raw(0x16, []byte("evil.example"))))), "damaged subjectAltName"},
		"universal tag":       {sans(raw(0x02, []byte("evil.example"))), "damaged subjectAltName"},
		"application tag":     {sans(raw(0x42, []byte("evil.example"))), "damaged subjectAltName"},
		"private tag":         {sans(raw(0xc2, []byte("evil.example"))), "damaged subjectAltName"},
		"trailing in SAN":     {x509.CertificateRequest{ExtraExtensions: []pkix.Extension{{Id: oidSAN, Value: append(san(t, dns("a.example")).Value, san(t, dns("evil.example")).Value...)}}}, "damaged subjectAltName"},
		"two SANs":            {x509.CertificateRequest{ExtraExtensions: []pkix.Extension{san(t, dns("evil.example")), san(t, dns("a.example"))}}, "not a PKCS#10"},
		"address of 5 bytes":  {sans(raw(0x87, []byte{1, 2, 3, 4, 5})), "not a PKCS#10"},
		"not ASCII":           {sans(raw(0x82, []byte("b\u00fccher.example"))), "not a PKCS#10"},
		"CA":                  {extension(der(t, struct{ CA bool }{true}), 2, 5, 29, 19), "basicConstraints"},
		"damaged CA":          {extension([]byte{0x30, 3, 1, 1, 1}, 2, 5, 29, 19), "basicConstraints"},
		"must-staple":         {extension([]byte{0x30, 3, 2, 1, 5}, 1, 3, 6, 1, 5, 5, 7, 1, 24), "must-staple"},
		"name constraints":    {extension(emptySubject, 2, 5, 29, 30), "2.5.29.30"},
		"CT poison":           {extension([]byte{5, 0}, 1, 3, 6, 1, 4, 1, 11129, 2, 4, 3), "1.3.6.1.4.1.11129.2.4.3"},
	} {
		refused(t, name, makeCSR(t, c.template), c.want)
	}
}

func refused(t *testing.T, name string, in []byte, want string) {
	t.Helper()
	csr, err := cert.ParseCSR(in)
	if err == nil {
		t.Errorf("%s: accepted for %s", name, csr.Names)
	} else if !strings.Contains(err.Error(), want) {
		t.Errorf("%s: %v; want an error with %q", name, err, want)
	}
}

// All common names count, not only the one that crypto/x509 shows.
func TestParseCSRReadsAllCommonNames(t *testing.T) {
	subject := der(t, pkix.RDNSequence{{{Type: oidCN, Value: "first.example"}}, {{Type: oidCN, Value: "last.example"}}})
	csr, err := cert.ParseCSR(makeCSR(t, x509.CertificateRequest{RawSubject: subject}))
	if err != nil || csr.Names.String() != "first.example last.example" {
		t.Errorf("%+v, %v", csr, err)
	}
}

// Extensions in places that crypto/x509 does not look at are not passed on.
func TestParseCSRRefusesHiddenExtensions(t *testing.T) {
	good, evil := []pkix.Extension{san(t, dns("a.example"))}, []pkix.Extension{san(t, dns("evil.example"))}
	key := ecKey(t, elliptic.P256())
	one := attribute(t, oidExtRequest, good)
	if csr, err := cert.ParseCSR(sign(t, key, emptySubject, one)); err != nil || csr.Names.String() != "a.example" {
		t.Fatalf("%+v, %v", csr, err)
	}
	password := der(t, []asn1.RawValue{{FullBytes: der(t, asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 7})}, raw(0x31, der(t, "secret"))})
	if _, err := cert.ParseCSR(sign(t, key, emptySubject, append(password, one...))); err != nil {
		t.Errorf("with a challenge password: %v", err)
	}
	for name, attributes := range map[string][]byte{
		"second value":     attribute(t, oidExtRequest, good, evil),
		"second attribute": append(attribute(t, oidExtRequest, good), attribute(t, oidExtRequest, []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 15}, Value: []byte{3, 2, 5, 160}}})...),
		"Microsoft's":      append(attribute(t, oidMSExtension, evil), one...),
		"damaged":          append(der(t, []asn1.RawValue{{FullBytes: der(t, oidExtRequest)}, raw(0x30, der(t, evil))}), one...),
	} {
		refused(t, name, sign(t, key, emptySubject, attributes), "")
	}
}

func TestParseCSRRefusesKeysAndForms(t *testing.T) { // M10
	names := cert.Names{"a.example"}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("GODEBUG", "rsa1024min=0") // to make what we refuse
	for want, key := range map[string]crypto.Signer{
		"P-224": ecKey(t, elliptic.P224()), "P-521": ecKey(t, elliptic.P521()), "Ed25519": edKey, "1024 bits": rsaKey(t, 1024),
	} {
		b, err := cert.NewCSR(key, names)
		if err != nil {
			t.Fatal(err)
		}
		refused(t, want, b, want)
	}
	good := makeCSR(t, x509.CertificateRequest{DNSNames: names})
	flipped := bytes.Clone(good)
	flipped[len(flipped)-1] ^= 1
	refused(t, "bad signature", flipped, "signature")
	renamed := bytes.Replace(good, []byte("a.example"), []byte("b.example"), 1)
	refused(t, "changed name", renamed, "signature")
	refused(t, "trailing data", append(bytes.Clone(good), 0), "not a PKCS#10")
	refused(t, "cut off", good[:len(good)-1], "not a PKCS#10")
	refused(t, "empty", nil, "not a PKCS#10")
	refused(t, "text", []byte("hello"), "not a PKCS#10")
	refused(t, "certificate", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: good}), `"CERTIFICATE"`)
	refused(t, "too large", make([]byte, cert.MaxCSR+1), "limit is 65536")
}

// A CA would refuse SHA-1 only at finalize, after an order was spent on it.
func TestParseCSRRefusesSHA1(t *testing.T) {
	key := rsaKey(t, 2048)
	good, err := cert.NewCSR(key, cert.Names{"a.example"})
	if err != nil {
		t.Fatal(err)
	}
	var csr struct {
		Info      asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}
	if _, err := asn1.Unmarshal(good, &csr); err != nil {
		t.Fatal(err)
	}
	sum := sha1.Sum(csr.Info.FullBytes)
	signature, err := key.Sign(rand.Reader, sum[:], crypto.SHA1)
	if err != nil {
		t.Fatal(err)
	}
	csr.Algorithm.Algorithm = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 5}
	csr.Signature = asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)}
	refused(t, "SHA-1", der(t, csr), "SHA-1")
}

// What `openssl req` makes with its default configuration is accepted.
func TestOpenSSL(t *testing.T) {
	openssl := pebbletest.Tool(t, "openssl")
	dir := t.TempDir()
	run := func(stdin string, args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), openssl, args...)
		cmd.Dir, cmd.Stdin = dir, strings.NewReader(stdin)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	run("", "ecparam", "-genkey", "-name", "prime256v1", "-out", "ec.pem")
	run("", "genrsa", "-out", "rsa.pem", "2048")
	answers := "\n\n\n\n\nWeb1.example.com\n\nsecret\n\n" // to its questions: the defaults, a CN, a challenge password
	for name, c := range map[string]struct {
		stdin string
		args  []string
		want  string
	}{
		"questions": {answers, nil, "web1.example.com"},
		"-subj":     {"", []string{"-subj", "/C=AU/O=Internet Widgits Pty Ltd/CN=web1.example.com"}, "web1.example.com"},
		"-addext":   {"", []string{"-subj", "/", "-addext", "subjectAltName=DNS:b.example,IP:2001:db8::1,DNS:*.a.example"}, "*.a.example 2001:db8::1 b.example"},
		"v3_req":    {"", []string{"-subj", "/CN=a.example", "-reqexts", "v3_req"}, "a.example"},
	} {
		for _, form := range []string{"PEM", "DER"} {
			for _, key := range []string{"ec.pem", "rsa.pem"} {
				run(c.stdin, append([]string{"req", "-new", "-key", key, "-outform", form, "-out", "csr"}, c.args...)...)
				data, err := os.ReadFile(filepath.Join(dir, "csr"))
				if err != nil {
					t.Fatal(err)
				}
				csr, err := cert.ParseCSR(data)
				if err != nil {
					t.Errorf("%s %s %s: %v", name, key, form, err)
				} else if csr.Names.String() != c.want {
					t.Errorf("%s %s %s: %s, want %s", name, key, form, csr.Names, c.want)
				}
			}
		}
	}
}

// sanIdentifiers reads the subjectAltNames of a CSR's attributes in its own
// way: every list of extensions, wherever it stands.
func sanIdentifiers(attributes []byte) (found []string) {
	input := cryptobyte.String(attributes)
	for !input.Empty() {
		var attr, values cryptobyte.String
		var id asn1.ObjectIdentifier
		if !input.ReadASN1(&attr, cryptobyte_asn1.SEQUENCE) || !attr.ReadASN1ObjectIdentifier(&id) || !attr.ReadASN1(&values, cryptobyte_asn1.SET) {
			return found
		}
		for (id.Equal(oidExtRequest) || id.Equal(oidMSExtension)) && !values.Empty() {
			var list cryptobyte.String
			if !values.ReadASN1(&list, cryptobyte_asn1.SEQUENCE) {
				break
			}
			for !list.Empty() {
				var ext, value, names cryptobyte.String
				if !list.ReadASN1(&ext, cryptobyte_asn1.SEQUENCE) || !ext.ReadASN1ObjectIdentifier(&id) {
					break
				}
				ext.SkipOptionalASN1(cryptobyte_asn1.BOOLEAN)
				if !id.Equal(oidSAN) || !ext.ReadASN1(&value, cryptobyte_asn1.OCTET_STRING) || !value.ReadASN1(&names, cryptobyte_asn1.SEQUENCE) {
					continue
				}
				for !names.Empty() {
					var name cryptobyte.String
					var tag cryptobyte_asn1.Tag
					if !names.ReadAnyASN1(&name, &tag) {
						break
					}
					switch tag {
					case 0x82:
						found = append(found, string(name))
					case 0x87:
						found = append(found, net.IP(name).String())
					default:
						found = append(found, "of another kind: "+string(name))
					}
				}
			}
		}
	}
	return found
}

// FuzzParseCSR reads data as a CSR, and as the attributes of one that is
// signed: a mutation of a whole CSR never gets past the signature.
func FuzzParseCSR(f *testing.F) {
	exts := func(names ...asn1.RawValue) []pkix.Extension { return []pkix.Extension{san(f, names...)} }
	cn := der(f, pkix.RDNSequence{{{Type: oidCN, Value: "a.example"}}})
	for _, data := range [][]byte{
		nil,
		makeCSR(f, x509.CertificateRequest{DNSNames: []string{"a.example"}}),
		attribute(f, oidExtRequest, exts(dns("a.example"), raw(0x87, []byte{192, 0, 2, 1}))),
		attribute(f, oidExtRequest, exts(raw(0x81, []byte("a@b.example")), raw(0xa2, der(f, raw(0x16, []byte("b.example")))))),
		attribute(f, oidExtRequest, exts(dns("a.example")), exts(dns("b.example"))),
		append(attribute(f, oidExtRequest, exts(dns("a.example"))), attribute(f, oidMSExtension, exts(dns("b.example")))...),
		append(attribute(f, oidMSExtension, exts(dns("a.example"))), attribute(f, oidExtRequest, windowsExtensions(f, san(f, dns("a.example"))))...),
		append(windowsAttributes(f), attribute(f, oidExtRequest, windowsExtensions(f))...),
	} {
		f.Add(data, emptySubject)
		f.Add(data, cn)
	}
	key := ecKey(f, elliptic.P256())
	f.Fuzz(func(t *testing.T, data, subject []byte) {
		for _, in := range [][]byte{data, sign(t, key, subject, data)} {
			csr, err := cert.ParseCSR(in)
			if err != nil {
				continue
			}
			if again, err := cert.ParseNames(csr.Names...); err != nil || !again.Equal(csr.Names) {
				t.Errorf("names %q are not canonical: %q, %v", csr.Names, again, err)
			}
			_ = csr.CheckNew()
			if again, err := cert.ParseCSR(csr.DER); err != nil || !again.Names.Equal(csr.Names) {
				t.Errorf("the DER of an accepted CSR: %v, %v", again, err)
			}
		}
		csr, err := cert.ParseCSR(sign(t, key, subject, data))
		if err != nil {
			return
		}
		for _, id := range sanIdentifiers(data) {
			name, err := cert.ParseName(id)
			if err != nil || !strings.Contains(","+csr.Names.Key()+",", ","+name+",") {
				t.Errorf("the subjectAltName has %q, the names are %s", id, csr.Names)
			}
		}
	})
}
