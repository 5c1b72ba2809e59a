package cert

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Reason names the reason for a revocation, as in RFC 5280, section 5.3.1.
type Reason string

// Reasons that public CAs accept from subscribers.
const (
	Unspecified          Reason = "unspecified"
	KeyCompromise        Reason = "keyCompromise"
	Superseded           Reason = "superseded"
	CessationOfOperation Reason = "cessationOfOperation"
)

// Reasons lists every reason, the default one first.
var Reasons = []Reason{Unspecified, KeyCompromise, Superseded, CessationOfOperation}

// ParseReason reads a reason in any case; "" is the default, unspecified.
func ParseReason(s string) (Reason, error) {
	if s == "" {
		return Unspecified, nil
	}
	for _, r := range Reasons {
		if strings.EqualFold(s, string(r)) {
			return r, nil
		}
	}
	return "", fmt.Errorf("unknown reason %q; write one of %s, %s, %s, %s", s, Reasons[0], Reasons[1], Reasons[2], Reasons[3])
}

// Code returns the reason's number in RFC 5280, which RFC 8555 sends.
func (r Reason) Code() uint {
	switch r {
	case KeyCompromise:
		return 1
	case Superseded:
		return 4
	case CessationOfOperation:
		return 5
	}
	return 0
}

// Revocation is a request to revoke a certificate that the caller holds.
type Revocation struct {
	Leaf   *x509.Certificate
	Names  Names
	Reason Reason
	Proof  []byte // proof of possession of the certificate's key; nil if none was sent
}

// Limits of a revocation request, in bytes.
const (
	MaxLeaf  = 64 << 10 // PEM
	MaxProof = 1 << 10  // the size of an RSA-8192 signature
)

// ParseRevocation reads a request: the first certificate of a PEM text, and the
// proof in base64. It does not check the proof. Every error is a *FieldError.
func ParseRevocation(certificate, reason, proof string) (rev Revocation, err error) {
	if rev.Leaf, err = parseLeaf(certificate); err != nil {
		return Revocation{}, &FieldError{"certificate", err}
	}
	if rev.Names, err = LeafNames(rev.Leaf); err != nil {
		return Revocation{}, &FieldError{"certificate", err}
	}
	if _, err := KeyTypeOf(rev.Leaf.PublicKey); err != nil {
		return Revocation{}, &FieldError{"certificate", err}
	}
	if rev.Reason, err = ParseReason(reason); err != nil {
		return Revocation{}, &FieldError{"reason", err}
	}
	if proof == "" {
		return rev, nil
	}
	if base64.StdEncoding.DecodedLen(len(proof)) > MaxProof+2 {
		return Revocation{}, &FieldError{"proof", errors.New("longer than any signature")}
	}
	if rev.Proof, err = base64.StdEncoding.DecodeString(proof); err != nil {
		return Revocation{}, &FieldError{"proof", errors.New("not base64")}
	}
	return rev, nil
}

func parseLeaf(certificate string) (*x509.Certificate, error) {
	if len(certificate) > MaxLeaf {
		return nil, fmt.Errorf("larger than %d bytes; send the leaf only, as cert.pem has it", MaxLeaf)
	}
	block, _ := pem.Decode([]byte(certificate))
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("not a PEM certificate; send what cert.pem has")
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, errors.New("damaged; send what cert.pem has")
	}
	return leaf, nil
}

// Serial returns the certificate's serial number, as Bundle.Serial writes it.
func (r Revocation) Serial() string { return hex.EncodeToString(r.Leaf.SerialNumber.Bytes()) }

// Expired reports whether the certificate has expired, so that no revocation is
// needed.
func (r Revocation) Expired(now time.Time) bool { return r.Leaf.NotAfter.Before(now) }

// revocationContext is the beginning of the signed text of a proof. It ensures that
// no TLS handshake creates a proof. It is longer than the 64 bytes that both sides
// choose in TLS 1.2 before a server's key signs. TLS 1.3 starts with 64 blanks.
const revocationContext = "acmeproxy: the holder of this key wants this certificate revoked, version 1"

// revocationText returns the signed text of a proof. It has three lines, each
// terminated, so that a shell can write it. The certificate is named by the SHA-256
// of its DER.
func revocationText(leafDER []byte, reason Reason) []byte {
	sum := sha256.Sum256(leafDER)
	return fmt.Appendf(nil, "%s\n%x\n%s\n", revocationContext, sum, reason)
}

// ProveRevocation signs a revocation for that reason with the certificate's key. It
// uses SHA-256 with ECDSA (ASN.1) or RSA (PKCS#1 v1.5), as "openssl dgst -sha256
// -sign" does.
func ProveRevocation(key crypto.Signer, leafDER []byte, reason Reason) ([]byte, error) {
	sum := sha256.Sum256(revocationText(leafDER, reason))
	proof, err := key.Sign(rand.Reader, sum[:], crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("sign the revocation: %w", err)
	}
	return proof, nil
}

// Proven reports whether the proof is valid for this certificate and reason.
func (r Revocation) Proven() bool {
	if len(r.Proof) == 0 || len(r.Proof) > MaxProof {
		return false
	}
	sum := sha256.Sum256(revocationText(r.Leaf.Raw, r.Reason))
	switch key := r.Leaf.PublicKey.(type) {
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(key, sum[:], r.Proof)
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], r.Proof) == nil
	}
	return false
}
