package acme

import (
	"crypto/x509"
	"encoding/base64"
	"errors"
)

// CertID returns the identifier of a certificate in ACME Renewal Information
// (RFC 9773, section 4.1): the base64url encodings of the authority key
// identifier and of the serial number's DER content, joined by a full stop.
func CertID(leaf *x509.Certificate) (string, error) {
	if len(leaf.AuthorityKeyId) == 0 {
		return "", errors.New("certificate: it has no authority key identifier, so it has no ARI id")
	}
	if leaf.SerialNumber == nil || leaf.SerialNumber.Sign() <= 0 {
		return "", errors.New("certificate: its serial number is not positive, so it has no ARI id")
	}
	serial := leaf.SerialNumber.Bytes()
	if serial[0]&0x80 != 0 { // DER keeps a positive number from looking negative
		serial = append([]byte{0}, serial...)
	}
	enc := base64.RawURLEncoding
	return enc.EncodeToString(leaf.AuthorityKeyId) + "." + enc.EncodeToString(serial), nil
}
