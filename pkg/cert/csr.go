package cert

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
)

// MaxCSR is the largest CSR read, in bytes. A hundred long names with an
// RSA-8192 key stay far below.
const MaxCSR = 64 << 10

// NewCSR makes a signed PKCS#10 request (DER) with all names in the
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

// CSR is a checked certificate signing request: its signature holds, its key
// is one that CAs accept, and its identifiers are all in Names.
type CSR struct {
	DER     []byte
	Names   Names
	KeyType KeyType
	Public  crypto.PublicKey
}

var (
	oidSubjectAltName   = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidBasicConstraints = asn1.ObjectIdentifier{2, 5, 29, 19}
	oidKeyUsage         = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidExtKeyUsage      = asn1.ObjectIdentifier{2, 5, 29, 37}
	oidSubjectKeyID     = asn1.ObjectIdentifier{2, 5, 29, 14}
	oidTLSFeature       = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 24}
)

// ParseCSR reads a CSR as PEM or DER and refuses whatever a policy decision
// over Names would not cover: e-mail addresses, URIs, other subjectAltName
// kinds, CA requests and extensions that ask for more than a server name.
func ParseCSR(data []byte) (*CSR, error) {
	if len(data) > MaxCSR {
		return nil, fmt.Errorf("CSR of %d bytes is too large; the limit is %d", len(data), MaxCSR)
	}
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
	keyType, err := KeyTypeOf(req.PublicKey)
	if err != nil {
		return nil, err
	}
	if err := req.CheckSignature(); err != nil {
		return nil, errors.New("the signature does not match the key; make the CSR anew")
	}
	if err := checkExtensions(req.Extensions); err != nil {
		return nil, err
	}
	names, err := csrNames(req)
	if err != nil {
		return nil, err
	}
	return &CSR{DER: der, Names: names, KeyType: keyType, Public: req.PublicKey}, nil
}

// csrNames collects every identifier; the common name counts as one, because
// CAs copy it into the certificate.
func csrNames(req *x509.CertificateRequest) (Names, error) {
	switch {
	case len(req.EmailAddresses) > 0:
		return nil, errors.New("e-mail addresses cannot be certified here; leave them out of the subjectAltName")
	case len(req.URIs) > 0:
		return nil, errors.New("URIs cannot be certified here; leave them out of the subjectAltName")
	}
	all := append([]string(nil), req.DNSNames...)
	for _, ip := range req.IPAddresses {
		all = append(all, ip.String())
	}
	if req.Subject.CommonName != "" {
		all = append(all, req.Subject.CommonName)
	}
	return ParseNames(all...)
}

func checkExtensions(extensions []pkix.Extension) error {
	for _, ext := range extensions {
		switch {
		case ext.Id.Equal(oidSubjectAltName):
			if err := checkGeneralNames(ext.Value); err != nil {
				return err
			}
		case ext.Id.Equal(oidBasicConstraints):
			var c struct {
				IsCA bool `asn1:"optional"`
				Len  int  `asn1:"optional,default:-1"`
			}
			if _, err := asn1.Unmarshal(ext.Value, &c); err != nil || c.IsCA {
				return errors.New("the CSR asks for a CA certificate (basicConstraints); leave that extension out")
			}
		case ext.Id.Equal(oidKeyUsage), ext.Id.Equal(oidExtKeyUsage), ext.Id.Equal(oidSubjectKeyID):
			// openssl adds them by default; the CA sets its own
		case ext.Id.Equal(oidTLSFeature):
			return errors.New("the CSR asks for must-staple, which CAs no longer issue; leave tlsfeature out")
		default:
			return fmt.Errorf("the CSR has the extension %s, which is not accepted; leave it out", ext.Id)
		}
	}
	return nil
}

// checkGeneralNames refuses the kinds that crypto/x509 skips silently:
// otherName, x400Address, directoryName, ediPartyName, registeredID.
func checkGeneralNames(value []byte) error {
	var seq asn1.RawValue
	if rest, err := asn1.Unmarshal(value, &seq); err != nil || len(rest) > 0 || seq.Tag != asn1.TagSequence {
		return errors.New("damaged subjectAltName")
	}
	for rest := seq.Bytes; len(rest) > 0; {
		var name asn1.RawValue
		var err error
		if rest, err = asn1.Unmarshal(rest, &name); err != nil {
			return errors.New("damaged subjectAltName")
		}
		switch name.Tag {
		case 1, 2, 6, 7: // rfc822Name, dNSName, URI, iPAddress: crypto/x509 reads them
		default:
			return fmt.Errorf("subjectAltName of kind %d cannot be certified; use DNS names only", name.Tag)
		}
	}
	return nil
}
