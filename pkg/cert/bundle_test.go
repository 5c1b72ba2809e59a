package cert_test

import (
	"bytes"
	"crypto"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
)

// authority is a CA of two: root and intermediate.
type authority struct {
	root, intermediate *x509.Certificate
	key                crypto.Signer // the intermediate's
}

func newAuthority(t testing.TB) authority {
	t.Helper()
	rootKey, key := ecKey(t, elliptic.P256()), ecKey(t, elliptic.P256())
	ca := func(name string) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
			NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<33, 0),
			IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		}
	}
	root := issue(t, ca("root"), ca("root"), rootKey.Public(), rootKey)
	return authority{root, issue(t, ca("intermediate"), root, key.Public(), rootKey), key}
}

func issue(t testing.TB, template, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) *x509.Certificate {
	t.Helper()
	b, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(b)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

var begin = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

func (a authority) leaf(t testing.TB, public crypto.PublicKey, change func(*x509.Certificate)) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(0xABCDEF), NotBefore: begin, NotAfter: begin.Add(90 * 24 * time.Hour),
		DNSNames: []string{"b.example", "a.example"}, IPAddresses: []net.IP{net.IPv4(192, 0, 2, 1)},
	}
	if change != nil {
		change(template)
	}
	return issue(t, template, a.intermediate, public, a.key)
}

func pemOf(certs ...*x509.Certificate) []byte {
	var out []byte
	for _, c := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return out
}

var leafNames = cert.Names{"192.0.2.1", "a.example", "b.example"}

func TestBundle(t *testing.T) {
	ca, key := newAuthority(t), generate(t, cert.EC256)
	leaf := ca.leaf(t, key.Public(), nil)
	b, err := cert.NewBundle(pemOf(leaf, ca.intermediate, ca.root), key, key.Public(), leafNames)
	if err != nil {
		t.Fatal(err)
	}
	if names, err := b.Names(); err != nil || !names.Equal(leafNames) || b.Serial() != "abcdef" || !b.NotAfter().Equal(leaf.NotAfter) {
		t.Errorf("names %s (%v), serial %s, not after %s", names, err, b.Serial(), b.NotAfter())
	}
	if !bytes.Equal(b.LeafPEM(), pemOf(leaf)) || !bytes.Equal(b.ChainPEM(), pemOf(ca.intermediate, ca.root)) ||
		!bytes.Equal(b.FullchainPEM(), pemOf(leaf, ca.intermediate, ca.root)) {
		t.Error("the PEM files are not the certificates")
	}
	keyPEM, err := b.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	all, err := b.PEM()
	if err != nil || !bytes.Equal(all, append(keyPEM, b.FullchainPEM()...)) {
		t.Errorf("PEM: %v", err)
	}
	again, err := cert.ParseBundle(all)
	if err != nil || !cert.SameKey(again.Key.Public(), key.Public()) || !again.Leaf.Equal(leaf) || len(again.Chain) != 2 {
		t.Errorf("ParseBundle: %+v, %v", again, err)
	}
}

func TestBundleWithoutKey(t *testing.T) {
	ca, key := newAuthority(t), generate(t, cert.EC256)
	b, err := cert.NewBundle(pemOf(ca.leaf(t, key.Public(), nil)), nil, key.Public(), leafNames)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.KeyPEM(); err == nil {
		t.Error("a key that is not there was encoded")
	}
	all, err := b.PEM()
	if err != nil || bytes.Contains(all, []byte("PRIVATE")) {
		t.Errorf("PEM: %s, %v", all, err)
	}
	if again, err := cert.ParseBundle(all); err != nil || again.Key != nil || len(again.Chain) != 0 || len(again.ChainPEM()) != 0 {
		t.Errorf("ParseBundle: %+v, %v", again, err)
	}
}

// Whatever is not what was asked for is refused.
func TestNewBundleRefuses(t *testing.T) {
	ca, other, key := newAuthority(t), newAuthority(t), generate(t, cert.EC256)
	good := ca.leaf(t, key.Public(), nil)
	leaf := func(change func(*x509.Certificate)) *x509.Certificate { return ca.leaf(t, key.Public(), change) }
	many := make([]*x509.Certificate, 17)
	for i := range many {
		many[i] = ca.root
	}
	for name, c := range map[string]struct {
		chain []byte
		want  string
	}{
		"empty":          {nil, "no PEM certificate"},
		"HTML":           {[]byte("<html>"), "no PEM certificate"},
		"not DER":        {pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")}), "certificate 1 of the chain"},
		"other key":      {pemOf(ca.leaf(t, generate(t, cert.EC256).Public(), nil)), "another key"},
		"a name less":    {pemOf(leaf(func(c *x509.Certificate) { c.DNSNames = c.DNSNames[1:] })), "not for"},
		"a name more":    {pemOf(leaf(func(c *x509.Certificate) { c.DNSNames = append(c.DNSNames, "evil.example") })), "evil.example"},
		"wildcard":       {pemOf(leaf(func(c *x509.Certificate) { c.DNSNames = []string{"*.example.com"} })), "*.example.com"},
		"other address":  {pemOf(leaf(func(c *x509.Certificate) { c.IPAddresses[0] = net.IPv4(192, 0, 2, 2) })), "192.0.2.2"},
		"no name":        {pemOf(leaf(func(c *x509.Certificate) { c.DNSNames, c.IPAddresses = nil, nil })), "no name"},
		"bad name":       {pemOf(leaf(func(c *x509.Certificate) { c.DNSNames = append(c.DNSNames, "a_b.example") })), "a_b.example"},
		"ends too early": {pemOf(leaf(func(c *x509.Certificate) { c.NotAfter = c.NotBefore.Add(-time.Hour) })), "ends before it begins"},
		"wrong order":    {pemOf(good, ca.root, ca.intermediate), "certificate 1 of the chain is not signed"},
		"gap":            {pemOf(good, ca.root), "certificate 1 of the chain is not signed"},
		"other CA":       {pemOf(good, other.intermediate), "certificate 1 of the chain is not signed"},
		"other root":     {pemOf(good, ca.intermediate, other.root), "certificate 2 of the chain is not signed"},
		"leaf last":      {pemOf(ca.intermediate, good), "another key"},
		"too many":       {pemOf(append([]*x509.Certificate{good}, many...)...), "more than 16"},
	} {
		b, err := cert.NewBundle(c.chain, key, key.Public(), leafNames)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %v; want an error with %q", name, b, err, c.want)
		}
	}
}

func TestParseBundleRefuses(t *testing.T) {
	ca, key, other := newAuthority(t), generate(t, cert.EC256), generate(t, cert.EC256)
	chain := pemOf(ca.leaf(t, key.Public(), nil), ca.intermediate)
	otherPEM, err := cert.MarshalKey(other)
	if err != nil {
		t.Fatal(err)
	}
	broken := bytes.Replace(otherPEM, []byte("KEY-----\nM"), []byte("KEY-----\nA"), 1)
	for name, c := range map[string]struct {
		in   []byte
		want string
	}{
		"key alone":   {otherPEM, "no PEM certificate"},
		"other key":   {append(bytes.Clone(otherPEM), chain...), "does not belong"},
		"damaged key": {append(broken, chain...), "damaged"},
		"cut-off key": {append(bytes.Clone(otherPEM[:60]), chain...), ""},
	} {
		b, err := cert.ParseBundle(c.in)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %v; want an error with %q", name, b, err, c.want)
		}
	}
}

func TestRenewAt(t *testing.T) {
	const day = 24 * time.Hour
	for _, c := range []struct{ life, after time.Duration }{
		{90 * day, 60 * day},
		{45 * day, 30 * day},
		{10 * day, 160 * time.Hour},
		{10*day - time.Second, 5*day - time.Second/2}, // half of it below ten days
		{160 * time.Hour, 80 * time.Hour},
		{time.Hour, 30 * time.Minute},
		{0, 0},
	} {
		if got := cert.RenewAt(begin, begin.Add(c.life)).Sub(begin); got != c.after {
			t.Errorf("life %s: renewed after %s, want %s", c.life, got, c.after)
		}
	}
	ca, key := newAuthority(t), generate(t, cert.EC256)
	b := &cert.Bundle{Leaf: ca.leaf(t, key.Public(), nil)}
	if got := b.RenewAt(); !got.Equal(begin.Add(60 * day)) {
		t.Errorf("renewed at %s", got)
	}
}

// A self-signed certificate works for callers that pin its key.
func TestSelfSigned(t *testing.T) {
	key := generate(t, cert.EC256)
	c, err := cert.SelfSigned(key, "acmeproxy")
	if err != nil {
		t.Fatal(err)
	}
	if !cert.SameKey(c.Leaf.PublicKey, key.Public()) || len(c.Certificate) != 1 || c.Leaf.Subject.CommonName != "acmeproxy" {
		t.Errorf("%+v", c.Leaf)
	}
	if err := c.Leaf.CheckSignature(c.Leaf.SignatureAlgorithm, c.Leaf.RawTBSCertificate, c.Leaf.Signature); err != nil {
		t.Error(err)
	}
	if c.Leaf.NotAfter.Year() != 9999 || !c.Leaf.NotBefore.Before(begin) {
		t.Errorf("valid from %s to %s", c.Leaf.NotBefore, c.Leaf.NotAfter)
	}
}

func FuzzParseBundle(f *testing.F) {
	ca, key := newAuthority(f), generate(f, cert.EC256)
	leaf := ca.leaf(f, key.Public(), nil)
	keyPEM, err := cert.MarshalKey(key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(nil))
	f.Add(pemOf(leaf, ca.intermediate))
	f.Add(append(bytes.Clone(keyPEM), pemOf(leaf, ca.intermediate)...))
	f.Add(append(pemOf(leaf), keyPEM...))
	f.Add(append(bytes.TrimSuffix(keyPEM, []byte("\n")), pemOf(leaf)...))
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := cert.ParseBundle(data)
		if err != nil {
			return
		}
		if b.Key != nil && !cert.SameKey(b.Key.Public(), b.Leaf.PublicKey) {
			t.Error("the key is another's")
		}
		b.Serial()
		b.RenewAt()
		text, err := b.PEM()
		if err != nil {
			t.Fatal(err)
		}
		again, err := cert.ParseBundle(text)
		if err != nil || !again.Leaf.Equal(b.Leaf) || len(again.Chain) != len(b.Chain) || (again.Key == nil) != (b.Key == nil) {
			t.Errorf("what PEM wrote reads as %+v, %v", again, err)
		}
	})
}

// A chain with a byte order mark, CRLF, or without newlines between its
// blocks is the same chain.
func TestTolerantChains(t *testing.T) {
	ca, key := newAuthority(t), ecKey(t, elliptic.P256())
	text := string(pemOf(ca.leaf(t, key.Public(), nil), ca.intermediate))
	for name, variant := range map[string]string{
		"as it is": text,
		"bom":      "\ufeff" + text,
		"boms":     strings.ReplaceAll(text, "-----BEGIN", "\ufeff-----BEGIN"),
		"crlf":     strings.ReplaceAll(text, "\n", "\r\n"),
		"joined":   strings.ReplaceAll(text, "-----END CERTIFICATE-----\n", "-----END CERTIFICATE-----"),
		"all":      "\ufeff" + strings.ReplaceAll(strings.ReplaceAll(text, "-----END CERTIFICATE-----\n", "-----END CERTIFICATE-----"), "\n", "\r\n"),
		"blanks":   strings.ReplaceAll(text, "-----BEGIN", "\n\n-----BEGIN"),
	} {
		b, err := cert.ParseBundle([]byte(variant))
		if err != nil || len(b.Chain) != 1 || string(b.FullchainPEM()) != text {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A chain in which certificates are there twice, which some CAs send, is the chain
// without the second ones.
func TestRepeatedCertificates(t *testing.T) {
	ca, key := newAuthority(t), generate(t, cert.EC256)
	leaf := ca.leaf(t, key.Public(), nil)
	want := pemOf(leaf, ca.intermediate, ca.root)
	for name, chain := range map[string][]*x509.Certificate{
		"leaf":               {leaf, leaf, ca.intermediate, ca.root},
		"leaf at the end":    {leaf, ca.intermediate, ca.root, leaf},
		"intermediate":       {leaf, ca.intermediate, ca.intermediate, ca.root},
		"intermediate later": {leaf, ca.intermediate, ca.root, ca.intermediate},
		"all":                {leaf, ca.intermediate, ca.root, leaf, ca.intermediate, ca.root},
	} {
		b, err := cert.NewBundle(pemOf(chain...), key, key.Public(), leafNames)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := b.FullchainPEM(); !bytes.Equal(got, want) {
			t.Errorf("%s: the bundle is\n%s", name, got)
		}
	}
	// Another certificate of the same CA is no duplicate.
	renewed := ca.leaf(t, key.Public(), func(c *x509.Certificate) { c.SerialNumber = big.NewInt(2) })
	if _, err := cert.NewBundle(pemOf(leaf, renewed, ca.intermediate), key, key.Public(), leafNames); err == nil {
		t.Error("accepted with another leaf between")
	}
}

// A certificate to be trusted by file has the same bytes on each instance and after each
// start, and is valid for its name.
func TestSelfSignedFor(t *testing.T) {
	key, err := cert.GenerateKey(cert.EC256)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"acmeproxy.example.com", "192.0.2.1", "2001:db8::1"} {
		first, err := cert.SelfSignedFor(key, name)
		if err != nil {
			t.Fatal(err)
		}
		second, err := cert.SelfSignedFor(key, name)
		if err != nil || !first.Leaf.Equal(second.Leaf) {
			t.Errorf("%s: not the same twice, %v", name, err)
		}
		roots := x509.NewCertPool()
		roots.AddCert(first.Leaf)
		if _, err := second.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: name}); err != nil {
			t.Error(err)
		}
		if second.Leaf.VerifyHostname("other.example.com") == nil {
			t.Errorf("%s: valid for other names", name)
		}
	}
}
