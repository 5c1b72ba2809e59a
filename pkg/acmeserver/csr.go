package acmeserver

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver/jws"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
)

// checkCSR reads the CSR of finalize, which must ask for a server's certificate with
// exactly the identifiers, and for another key than the account's. An error is a
// problem.
func checkCSR(der []byte, ids []acme.Identifier, account *jws.Key) (*cert.CSR, error) {
	refuse := func(err error) error { return problem(acme.BadCSR, 0, "csr: "+cut(err.Error(), 1024)) }
	if len(der) == 0 || der[0] != asn1.TagSequence|0x20 {
		return nil, refuse(errors.New("not DER; send the DER in base64url"))
	}
	csr, err := cert.ParseCSR(der)
	if err != nil {
		return nil, refuse(err)
	}
	if err := csr.CheckNew(); err != nil {
		return nil, refuse(err)
	}
	if cert.SameKey(csr.Public, account.Public()) {
		return nil, refuse(errors.New("it is for the account's key; use another key for the certificate"))
	}
	if err := compareNames(names(ids), csr.Names); err != nil {
		return nil, refuse(err)
	}
	return csr, nil
}

func compareNames(order, csr cert.Names) error {
	missing := without(order, csr)
	further := without(csr, order)
	switch {
	case len(missing) > 0 && len(further) > 0:
		return fmt.Errorf("it lacks %s of the order, and has %s, which the order lacks", few(missing), few(further))
	case len(missing) > 0:
		return fmt.Errorf("it lacks %s, which the order has", few(missing))
	case len(further) > 0:
		return fmt.Errorf("it has %s, which the order lacks", few(further))
	}
	return nil
}

func without(set, other cert.Names) (rest []string) {
	for _, name := range set {
		if !slices.Contains(other, name) {
			rest = append(rest, name)
		}
	}
	return rest
}

func few(list []string) string {
	const most = 5
	if len(list) <= most {
		return strings.Join(list, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(list[:most], ", "), len(list)-most)
}

// keyHash returns the SHA-256 of a key's SubjectPublicKeyInfo in hexadecimal. It encodes
// the key again, so that a CSR and a certificate with the same key have the same hash.
func keyHash(public crypto.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return "", fmt.Errorf("encode a public key: %w", err)
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:]), nil
}

// decodeDER decodes base64url, with or without padding, as some clients add it.
func decodeDER(field, text string, most int) ([]byte, error) {
	text = strings.TrimRight(text, "=")
	if base64.RawURLEncoding.DecodedLen(len(text)) > most {
		return nil, problem(acme.Malformed, 0, fmt.Sprintf("%s: it is larger than %d bytes", field, most))
	}
	der, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(der) == 0 {
		return nil, problem(acme.Malformed, 0, field+": it is not DER in base64url")
	}
	return der, nil
}
