package localca

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/localfile"
)

// authority is a CA certificate with its key.
type authority struct {
	name string // such as root-1; the name of its files in URLs
	cert *x509.Certificate
	key  crypto.Signer
	crl  crl
}

func (a *authority) pem() []byte { return encode(a.cert) }

// generation is a root and what it signed. It never changes.
type generation struct {
	number        int
	root, issuing *authority
	// cross is the root's certificate from the root before it; nil for the first.
	cross *x509.Certificate
	// serials is the key that serial numbers are derived with.
	serials []byte
}

// generations are the newest first, at least one.
type generations []*generation

// newGeneration creates keys and certificates that follow those of prev, which is nil
// for the first ones.
func (c *Config) newGeneration(prev *generation) (*generation, error) {
	g := &generation{number: 1}
	if prev != nil {
		g.number = prev.number + 1
	}
	now := c.Now().Truncate(time.Second)
	var err error
	root := c.template("Root", g.number, now)
	if g.root, err = newAuthority("root", g.number, root, nil); err != nil {
		return nil, err
	}
	issuing := c.template("Issuing", g.number, now)
	issuing.MaxPathLenZero = true
	issuing.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	issuing.Policies = anyPolicy()
	c.addURLs(issuing, g.root)
	if g.issuing, err = newAuthority("issuing", g.number, issuing, g.root); err != nil {
		return nil, err
	}
	if prev != nil {
		if g.cross, err = c.crossSign(g.root, prev.root, now); err != nil {
			return nil, err
		}
	}
	g.serials, err = serialKey(g.issuing.key)
	return g, err
}

// early is how long before their creation CA certificates are valid, for clients whose
// clock is slow.
const early = day

// createdAt returns when the generation was created.
func (g *generation) createdAt() time.Time { return g.root.cert.NotBefore.Add(early) }

// template returns the fields that all CA certificates have.
func (c *Config) template(kind string, number int, now time.Time) *x509.Certificate {
	notBefore := now.Add(-early)
	return &x509.Certificate{
		SerialNumber: randomSerial(),
		Subject: pkix.Name{
			Country: []string{c.Country}, Organization: []string{c.Organization},
			CommonName: fmt.Sprintf("%s %s %d", c.CommonName, kind, number),
		},
		NotBefore: notBefore, NotAfter: notBefore.Add(c.RootLifetime - time.Second),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true, IsCA: true,
	}
}

// crossSign returns the root's certificate from the root before it.
func (c *Config) crossSign(root, prev *authority, now time.Time) (*x509.Certificate, error) {
	if !now.Before(prev.cert.NotAfter) {
		return nil, nil //nolint:nilnil // an expired root signs nothing, which is no failure
	}
	t := c.template("", 0, now)
	t.Subject, t.SubjectKeyId = root.cert.Subject, root.cert.SubjectKeyId
	t.NotBefore, t.NotAfter = laterOf(t.NotBefore, prev.cert.NotBefore), earlierOf(root.cert.NotAfter, prev.cert.NotAfter)
	t.Policies = anyPolicy()
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	c.addURLs(t, prev)
	return sign(t, prev.cert, root.key.Public(), prev.key)
}

// addURLs adds where clients find the CRL and the certificate of the issuer.
func (c *Config) addURLs(t *x509.Certificate, issuer *authority) {
	if c.URL != "" {
		t.CRLDistributionPoints = []string{c.URL + "/" + issuer.name + ".crl"}
		t.IssuingCertificateURL = []string{c.URL + "/" + issuer.name + ".cer"}
	}
}

// newAuthority generates a key and its certificate, self-signed if issuer is nil.
func newAuthority(kind string, number int, t *x509.Certificate, issuer *authority) (*authority, error) {
	key, err := cert.GenerateKey(cert.EC256)
	if err != nil {
		return nil, err
	}
	parent, signer := t, key
	if issuer != nil {
		parent, signer = issuer.cert, issuer.key
	}
	made, err := sign(t, parent, key.Public(), signer)
	if err != nil {
		return nil, err
	}
	return newStored(kind, number, made, key), nil
}

func newStored(kind string, number int, c *x509.Certificate, key crypto.Signer) *authority {
	return &authority{name: kind + "-" + strconv.Itoa(number), cert: c, key: key}
}

// sign creates a certificate and parses it. Without a source of randomness the
// signature depends on the content only (RFC 6979).
func sign(t, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(nil, t, parent, public, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// The serial numbers have 128 random bits after a fixed byte, so that all of them are
// positive and have the same length.
const (
	serialPrefix = 0x01
	serialBits   = 128
)

func randomSerial() *big.Int {
	bits := make([]byte, serialBits/8)
	_, _ = rand.Read(bits) // never fails
	return newSerial(bits)
}

func newSerial(bits []byte) *big.Int {
	return new(big.Int).SetBytes(append([]byte{serialPrefix}, bits[:serialBits/8]...))
}

// serialKey derives the key of serial numbers from the issuing key, so that both are
// always stored together.
func serialKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return hkdf.Key(sha256.New, der, nil, "acmeserver/localca serial numbers", sha256.Size)
}

// anyPolicy returns the policy of CA certificates (RFC 5280, section 4.2.1.4).
func anyPolicy() []x509.OID { return []x509.OID{oid(2, 5, 29, 32, 0)} }

func oid(parts ...uint64) x509.OID {
	o, err := x509.OIDFromInts(parts)
	if err != nil {
		panic(err) // not reached: the callers' parts are constants
	}
	return o
}

// Names of a generation's file.
const (
	filePrefix = "ca-"
	fileSuffix = ".pem"
)

func (g *generation) file() string { return filePrefix + strconv.Itoa(g.number) + fileSuffix }

// write stores the generation in one file, so that a crash leaves all of it or nothing.
func (g *generation) write(dir string) error {
	var out bytes.Buffer
	for _, a := range []*authority{g.root, g.issuing} {
		key, err := cert.MarshalKey(a.key)
		if err != nil {
			return err
		}
		out.Write(key)
		out.Write(a.pem())
	}
	if g.cross != nil {
		out.Write(encode(g.cross))
	}
	return replace(filepath.Join(dir, g.file()), out.Bytes())
}

// replace writes a private file durably, with its name.
func replace(path string, data []byte) error {
	if err := localfile.Replace(path, data); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(localfile.SyncDir(dir), dir.Close())
}

// readGenerations reads all files of a folder, and removes what a crash left.
func readGenerations(dir string) (all generations, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "."+filePrefix) || strings.HasPrefix(e.Name(), ".revoked") || strings.HasPrefix(e.Name(), "."+numberFile) {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return nil, err
			}
			continue
		}
		name, isCA := strings.CutPrefix(e.Name(), filePrefix)
		number, err := strconv.Atoi(strings.TrimSuffix(name, fileSuffix))
		if !isCA || err != nil || number < 1 {
			continue
		}
		data, err := localfile.Read(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		g, err := parseGeneration(number, data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w; restore it from a backup", filepath.Join(dir, e.Name()), err)
		}
		all = append(all, g)
	}
	slices.SortFunc(all, func(a, b *generation) int { return cmp.Compare(b.number, a.number) })
	return all, nil
}

// parseGeneration reads the content of a generation's file.
func parseGeneration(number int, data []byte) (*generation, error) {
	g := &generation{number: number}
	var err error
	if g.root, data, err = parseAuthority("root", number, data); err != nil {
		return nil, err
	}
	if g.issuing, data, err = parseAuthority("issuing", number, data); err != nil {
		return nil, err
	}
	if err := g.issuing.cert.CheckSignatureFrom(g.root.cert); err != nil {
		return nil, fmt.Errorf("the root did not sign the issuing certificate: %w", err)
	}
	if len(bytes.TrimSpace(data)) > 0 {
		if g.cross, _, err = parseCertificate(data); err != nil {
			return nil, err
		}
		if !cert.SameKey(g.cross.PublicKey, g.root.cert.PublicKey) {
			return nil, errors.New("the cross certificate does not belong to the root's key")
		}
	}
	g.serials, err = serialKey(g.issuing.key)
	return g, err
}

// parseAuthority reads a key and its certificate, and returns what follows.
func parseAuthority(kind string, number int, data []byte) (*authority, []byte, error) {
	block, rest := pem.Decode(data)
	if block == nil {
		return nil, nil, fmt.Errorf("the %s key is missing", kind)
	}
	key, err := cert.ParseKey(pem.EncodeToMemory(block))
	if err != nil {
		return nil, nil, fmt.Errorf("the %s key: %w", kind, err)
	}
	if k, ok := key.(*ecdsa.PrivateKey); !ok || k.Curve != elliptic.P256() {
		return nil, nil, fmt.Errorf("the %s key is not of type P-256", kind)
	}
	c, rest, err := parseCertificate(rest)
	if err != nil {
		return nil, nil, fmt.Errorf("the %s certificate: %w", kind, err)
	}
	if !cert.SameKey(c.PublicKey, key.Public()) {
		return nil, nil, fmt.Errorf("the %s certificate belongs to another key", kind)
	}
	return newStored(kind, number, c, key), rest, nil
}

func parseCertificate(data []byte) (*x509.Certificate, []byte, error) {
	block, rest := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, nil, cert.ErrNoCertificate
	}
	c, err := x509.ParseCertificate(block.Bytes)
	return c, rest, err
}

func encode(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

func laterOf(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earlierOf(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
