package cert

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"net"
	"slices"
)

var (
	oidSubjectAltName   = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidBasicConstraints = asn1.ObjectIdentifier{2, 5, 29, 19}
	oidExtKeyUsage      = asn1.ObjectIdentifier{2, 5, 29, 37}
	oidTLSFeature       = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 24}

	oidServerAuth = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 1}
	oidAnyUsage   = asn1.ObjectIdentifier{2, 5, 29, 37, 0}
	oidRSAPSS     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10}

	oidCommonName          = asn1.ObjectIdentifier{2, 5, 4, 3}
	oidExtensionRequest    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 14}
	oidMicrosoftExtensions = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 1, 14}
)

// ignored lists the extensions that common programs add and public CAs omit. None
// of them names a subject.
var ignored = []asn1.ObjectIdentifier{
	oidExtKeyUsage,
	{2, 5, 29, 14},                  // subjectKeyIdentifier
	{2, 5, 29, 15},                  // keyUsage
	{2, 5, 29, 16},                  // privateKeyUsagePeriod
	{2, 5, 29, 18},                  // issuerAltName
	{2, 5, 29, 31},                  // cRLDistributionPoints
	{2, 5, 29, 32},                  // certificatePolicies
	{2, 5, 29, 35},                  // authorityKeyIdentifier
	{2, 5, 29, 46},                  // freshestCRL
	{1, 3, 6, 1, 5, 5, 7, 1, 1},     // authorityInfoAccess
	{1, 2, 840, 113549, 1, 9, 15},   // S/MIME capabilities, from IIS
	{1, 3, 6, 1, 4, 1, 311, 20, 2},  // Microsoft: name of the template
	{1, 3, 6, 1, 4, 1, 311, 21, 7},  // Microsoft: template
	{1, 3, 6, 1, 4, 1, 311, 21, 10}, // Microsoft: application policies
	{2, 16, 840, 1, 113730, 1, 1},   // nsCertType
	{2, 16, 840, 1, 113730, 1, 2},   // nsBaseUrl
	{2, 16, 840, 1, 113730, 1, 3},   // nsRevocationUrl
	{2, 16, 840, 1, 113730, 1, 4},   // nsCaRevocationUrl
	{2, 16, 840, 1, 113730, 1, 7},   // nsRenewalUrl
	{2, 16, 840, 1, 113730, 1, 8},   // nsCaPolicyUrl
	{2, 16, 840, 1, 113730, 1, 13},  // nsComment
}

// checkAttributes refuses extensions that crypto/x509 skips silently and other
// programs may read. These are a second extension request, or a second value of
// one. Microsoft's older attribute, which IIS and certreq may add, must ask for
// nothing more; its names are returned. Others, such as a challenge password or the
// version of Windows, mean nothing to a CA.
func checkAttributes(tbs []byte) (hidden []string, err error) {
	var parsed struct {
		Version            int
		Subject, PublicKey asn1.RawValue
		Attributes         []asn1.RawValue `asn1:"tag:0"`
	}
	if _, err := asn1.Unmarshal(tbs, &parsed); err != nil {
		return nil, errors.New("damaged attributes")
	}
	requests := 0
	for _, raw := range parsed.Attributes {
		var attribute struct {
			ID     asn1.ObjectIdentifier
			Values []asn1.RawValue `asn1:"set"`
		}
		if rest, err := asn1.Unmarshal(raw.FullBytes, &attribute); err != nil || len(rest) > 0 {
			return nil, errors.New("damaged attribute")
		}
		switch {
		case attribute.ID.Equal(oidMicrosoftExtensions):
			for _, value := range attribute.Values {
				names, err := checkMicrosoftExtensions(value)
				if err != nil {
					return nil, fmt.Errorf("attribute %s: %w", attribute.ID, err)
				}
				hidden = append(hidden, names...)
			}
		case attribute.ID.Equal(oidExtensionRequest):
			if requests += len(attribute.Values); requests != 1 {
				return nil, errors.New("the CSR has more than one list of extensions; make one of them")
			}
		}
	}
	return hidden, nil
}

// checkMicrosoftExtensions returns the names in a list of extensions.
func checkMicrosoftExtensions(value asn1.RawValue) (names []string, err error) {
	var extensions []pkix.Extension
	if rest, err := asn1.Unmarshal(value.FullBytes, &extensions); err != nil || len(rest) > 0 {
		return nil, errors.New("damaged extensions")
	}
	if err := checkExtensions(extensions); err != nil {
		return nil, err
	}
	for _, ext := range extensions {
		if ext.Id.Equal(oidSubjectAltName) {
			found, err := generalNames(ext.Value)
			if err != nil {
				return nil, err
			}
			names = append(names, found...)
		}
	}
	return names, nil
}

func checkExtensions(extensions []pkix.Extension) error {
	for _, ext := range extensions {
		switch {
		case ext.Id.Equal(oidSubjectAltName):
			if _, err := generalNames(ext.Value); err != nil {
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
		case slices.ContainsFunc(ignored, ext.Id.Equal):
			// OpenSSL, IIS and XCA add them; the CA sets its own or none
		case ext.Id.Equal(oidTLSFeature):
			return errors.New("the CSR asks for must-staple, which CAs no longer issue; leave tlsfeature out")
		default:
			return fmt.Errorf("the CSR has the extension %s, which is not accepted; leave it out", ext.Id)
		}
	}
	return nil
}

// generalNames returns the DNS names and addresses. It refuses the kinds that
// crypto/x509 skips silently: otherName, x400Address, directoryName, ediPartyName,
// registeredID. csrNames refuses e-mail addresses and URIs.
func generalNames(value []byte) (names []string, err error) {
	damaged := errors.New("damaged subjectAltName")
	var seq asn1.RawValue
	if rest, err := asn1.Unmarshal(value, &seq); err != nil || len(rest) > 0 || seq.Tag != asn1.TagSequence {
		return nil, damaged
	}
	for rest := seq.Bytes; len(rest) > 0; {
		var name asn1.RawValue
		if rest, err = asn1.Unmarshal(rest, &name); err != nil || name.Class != asn1.ClassContextSpecific {
			return nil, damaged
		}
		switch name.Tag {
		case 1, 2, 6: // rfc822Name, dNSName, URI: crypto/x509 reads them
			names = append(names, string(name.Bytes))
		case 7: // iPAddress
			names = append(names, net.IP(name.Bytes).String())
		default:
			return nil, fmt.Errorf("subjectAltName of kind %d cannot be certified; use DNS names only", name.Tag)
		}
		if name.IsCompound { // crypto/x509 would skip it
			return nil, damaged
		}
	}
	return names, nil
}

// isPSSKey reports whether the key can sign by RSA-PSS only. crypto/x509 does not
// read such keys.
func isPSSKey(req *x509.CertificateRequest) bool {
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	_, err := asn1.Unmarshal(req.RawSubjectPublicKeyInfo, &info)
	return err == nil && info.Algorithm.Algorithm.Equal(oidRSAPSS)
}

// isPSSSignature reports whether the request is signed by RSA-PSS. crypto/x509 does
// not support the salts that OpenSSL chooses.
func isPSSSignature(req *x509.CertificateRequest) bool {
	var signed struct {
		Info      asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}
	_, err := asn1.Unmarshal(req.Raw, &signed)
	return err == nil && signed.Algorithm.Algorithm.Equal(oidRSAPSS)
}

// checkUsage refuses a request with key usages that do not fit a server
// certificate. A request without key usages is accepted.
func checkUsage(extensions []pkix.Extension) error {
	for _, ext := range extensions {
		if !ext.Id.Equal(oidExtKeyUsage) {
			continue
		}
		var usages []asn1.ObjectIdentifier
		if rest, err := asn1.Unmarshal(ext.Value, &usages); err != nil || len(rest) > 0 {
			return errors.New("damaged extendedKeyUsage; leave it out")
		}
		if !slices.ContainsFunc(usages, oidServerAuth.Equal) && !slices.ContainsFunc(usages, oidAnyUsage.Equal) {
			return errors.New("the CSR asks for a certificate that is not for servers (extendedKeyUsage); add serverAuth, or leave it out")
		}
	}
	return nil
}
