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

	oidCommonName          = asn1.ObjectIdentifier{2, 5, 4, 3}
	oidEmailAddress        = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}
	oidExtensionRequest    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 14}
	oidMicrosoftExtensions = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 1, 14}
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
	if err := checkSignature(req); err != nil {
		return nil, err
	}
	if err := checkAttributes(req.RawTBSCertificateRequest); err != nil {
		return nil, err
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

// checkSignature also refuses the hashes that CAs refuse when it is too late,
// at finalize; crypto/x509 takes SHA-1 in a CSR.
func checkSignature(req *x509.CertificateRequest) error {
	switch req.SignatureAlgorithm {
	case x509.SHA1WithRSA, x509.ECDSAWithSHA1:
		return errors.New("the CSR is signed with SHA-1; make it anew with SHA-256")
	}
	if err := req.CheckSignature(); err != nil {
		return errors.New("the signature does not match the key; make the CSR anew")
	}
	return nil
}

// csrNames collects every identifier; a common name counts as one, because
// CAs copy it into the certificate.
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

// commonNames reads all of them: pkix.Name.CommonName is only the last one.
func commonNames(subject pkix.Name) ([]string, error) {
	var all []string
	for _, attribute := range subject.Names {
		switch {
		case attribute.Type.Equal(oidEmailAddress):
			return nil, errors.New("e-mail addresses cannot be certified here; leave emailAddress out of the subject")
		case !attribute.Type.Equal(oidCommonName):
			continue // CAs leave the rest of the subject out
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

// checkAttributes refuses the places for extensions that crypto/x509 skips
// silently, and others may read: a second extension request, a second value of
// it, Microsoft's older one.
func checkAttributes(tbs []byte) error {
	var parsed struct {
		Version            int
		Subject, PublicKey asn1.RawValue
		Attributes         []asn1.RawValue `asn1:"tag:0"`
	}
	if _, err := asn1.Unmarshal(tbs, &parsed); err != nil {
		return errors.New("damaged attributes")
	}
	requests := 0
	for _, raw := range parsed.Attributes {
		var attribute struct {
			ID     asn1.ObjectIdentifier
			Values []asn1.RawValue `asn1:"set"`
		}
		if rest, err := asn1.Unmarshal(raw.FullBytes, &attribute); err != nil || len(rest) > 0 {
			return errors.New("damaged attribute")
		}
		switch {
		case attribute.ID.Equal(oidMicrosoftExtensions):
			return fmt.Errorf("the CSR has extensions in the attribute %s, which is not accepted; leave it out", attribute.ID)
		case attribute.ID.Equal(oidExtensionRequest):
			if requests += len(attribute.Values); requests != 1 {
				return errors.New("the CSR has more than one list of extensions; make one of them")
			}
		}
	}
	return nil
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
		if name.Class != asn1.ClassContextSpecific {
			return errors.New("damaged subjectAltName")
		}
		switch name.Tag {
		case 1, 2, 6, 7: // rfc822Name, dNSName, URI, iPAddress: crypto/x509 reads them
			if name.IsCompound { // … unless they are in pieces
				return errors.New("damaged subjectAltName")
			}
		default:
			return fmt.Errorf("subjectAltName of kind %d cannot be certified; use DNS names only", name.Tag)
		}
	}
	return nil
}
