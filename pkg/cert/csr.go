package cert

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
)

// MaxCSR is the maximum size of a CSR in bytes. A CSR with a hundred long names and
// an RSA-8192 key is far smaller.
const MaxCSR = 64 << 10

// NewCSR creates a signed PKCS#10 request (DER) with all names in the
// subjectAltName and an empty subject, as CAs want it.
func NewCSR(key crypto.Signer, names Names) ([]byte, error) {
	template := &x509.CertificateRequest{}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		return nil, fmt.Errorf("make the CSR: %w", err)
	}
	return der, nil
}

// CSR holds a checked certificate signing request. Its signature is valid, CAs
// accept its key, and Names has all its identifiers.
type CSR struct {
	DER     []byte
	Names   Names
	KeyType KeyType
	Public  crypto.PublicKey
}

// ParseCSR reads a CSR as PEM or DER. It refuses everything that a policy decision
// over Names would not cover: e-mail addresses, URIs, other subjectAltName kinds and
// CA requests. It also refuses extensions that ask for more than a server name. Such an
// error is a *ContentError.
func ParseCSR(data []byte) (*CSR, error) {
	if len(data) > MaxCSR {
		return nil, fmt.Errorf("CSR of %d bytes is too large; the limit is %d", len(data), MaxCSR)
	}
	data = bytes.TrimPrefix(data, []byte("\ufeff")) // as editors on Windows write it
	der := data
	if block, _ := pem.Decode(data); block != nil {
		if block.Type != "CERTIFICATE REQUEST" && block.Type != "NEW CERTIFICATE REQUEST" {
			return nil, fmt.Errorf("PEM block %q is not a CERTIFICATE REQUEST", block.Type)
		}
		der = block.Bytes
	}
	req, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, errors.New("not a PKCS#10 certificate request in PEM or DER")
	}
	if isPSSKey(req) {
		return nil, errors.New("the key is for RSA-PSS only, which CAs refuse; make a key of type rsaEncryption")
	}
	keyType, err := KeyTypeOf(req.PublicKey)
	if err != nil {
		return nil, err
	}
	if err := checkSignature(req); err != nil {
		return nil, err
	}
	names, err := checkContent(req)
	if err != nil {
		return nil, &ContentError{err}
	}
	return &CSR{DER: der, Names: names, KeyType: keyType, Public: req.PublicKey}, nil
}

// ContentError reports that a well-formed CSR asks for something that no certificate here
// may have.
type ContentError struct{ Err error }

func (e *ContentError) Error() string { return e.Err.Error() }

// Unwrap returns what the CSR asks for.
func (e *ContentError) Unwrap() error { return e.Err }

// checkContent returns all identifiers if the request has nothing else that matters.
func checkContent(req *x509.CertificateRequest) (Names, error) {
	hidden, err := checkAttributes(req.RawTBSCertificateRequest)
	if err != nil {
		return nil, err
	}
	if err := checkExtensions(req.Extensions); err != nil {
		return nil, err
	}
	names, err := csrNames(req)
	if err != nil {
		return nil, err
	}
	for _, name := range hidden {
		if canonical, err := ParseName(name); err != nil || !slices.Contains(names, canonical) {
			return nil, fmt.Errorf("%q is in the attribute %s only, which CAs do not read; add it to the subjectAltName", name, oidMicrosoftExtensions)
		}
	}
	return names, nil
}

// checkSignature also refuses the algorithms that CAs refuse only at finalize.
// crypto/x509 accepts SHA-1 and RSA-PSS in a CSR.
func checkSignature(req *x509.CertificateRequest) error {
	switch req.SignatureAlgorithm {
	case x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA, x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512:
	case x509.SHA1WithRSA, x509.ECDSAWithSHA1:
		return errors.New("the CSR is signed with SHA-1; sign it with SHA-256")
	default:
		if isPSSSignature(req) {
			return errors.New("the CSR is signed with RSA-PSS, which CAs refuse; sign it with RSA PKCS #1 v1.5 and SHA-256")
		}
		return errors.New("the CSR is signed with an algorithm that CAs refuse; sign it with RSA PKCS #1 v1.5 or ECDSA, and SHA-256")
	}
	if err := req.CheckSignature(); err != nil {
		return errors.New("the signature does not match the key; make another CSR with this key")
	}
	return nil
}

// CheckNew returns an error for a CSR that ParseCSR accepts but a CA refuses at
// finalize. Examples are a name not written as in the order, a common name outside
// the subjectAltName, and a certificate not for servers. ParseCSR accepts these
// because stored CSRs may have them.
func (c *CSR) CheckNew() error {
	req, err := x509.ParseCertificateRequest(c.DER)
	if err != nil {
		return errors.New("not a PKCS#10 certificate request in PEM or DER")
	}
	common, err := commonNames(req.Subject)
	if err != nil {
		return err
	}
	var sans Names
	for _, ip := range req.IPAddresses {
		sans = append(sans, ip.String())
	}
	for _, name := range req.DNSNames {
		canonical, err := checkSpelling("subjectAltName", name)
		if err != nil {
			return err
		}
		sans = append(sans, canonical)
	}
	for _, name := range common {
		canonical, err := checkSpelling("common name", name)
		if err != nil {
			return err
		}
		if len(sans) > 0 && !slices.Contains(sans, canonical) {
			return fmt.Errorf("common name: %q is not in the subjectAltName; add it there, or leave the common name out", name)
		}
	}
	return checkUsage(req.Extensions)
}

// checkSpelling compares a name with its canonical form in the order. A CA may
// tolerate capitals only.
func checkSpelling(where, name string) (canonical string, err error) {
	canonical, err = ParseName(name)
	switch {
	case err != nil:
		return "", fmt.Errorf("%s: %w", where, err)
	case strings.HasSuffix(name, "."):
		return "", fmt.Errorf("%s: %q ends with a full stop, which CAs refuse; write %s", where, name, canonical)
	case strings.ToLower(name) != canonical && !IsIP(canonical):
		return "", fmt.Errorf("%s: %q is not how CAs write that name; write %s", where, name, canonical)
	}
	return canonical, nil
}

// csrNames returns every identifier. It includes the common name, because CAs copy
// it into the certificate.
func csrNames(req *x509.CertificateRequest) (Names, error) {
	switch {
	case len(req.EmailAddresses) > 0:
		return nil, errors.New("e-mail addresses cannot be certified here; leave them out of the subjectAltName")
	case len(req.URIs) > 0:
		return nil, errors.New("URIs cannot be certified here; leave them out of the subjectAltName")
	}
	all, err := commonNames(req.Subject)
	if err != nil {
		return nil, err
	}
	for _, name := range req.DNSNames {
		if IsIP(name) {
			return nil, fmt.Errorf("the subjectAltName has the address %q as a DNS name; write it as IP", name)
		}
		all = append(all, name)
	}
	for _, ip := range req.IPAddresses {
		all = append(all, ip.String())
	}
	return ParseNames(all...)
}

// commonNames returns all common names; pkix.Name.CommonName is only the last one.
func commonNames(subject pkix.Name) ([]string, error) {
	var all []string
	for _, attribute := range subject.Names {
		if !attribute.Type.Equal(oidCommonName) {
			continue // CAs omit the rest of the subject; appliances fill in an organization and an e-mail address
		}
		name, ok := attribute.Value.(string)
		if !ok {
			return nil, errors.New("the common name is not text; leave it out, the subjectAltName is enough")
		}
		if name == "" {
			continue
		}
		if _, err := ParseName(name); err != nil {
			return nil, fmt.Errorf("common name: %w; or leave it out, the subjectAltName is enough", err)
		}
		all = append(all, name)
	}
	return all, nil
}
