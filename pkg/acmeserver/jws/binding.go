package jws

import (
	"crypto/subtle"
	"fmt"
	"net/http"

	"github.com/go-jose/go-jose/v4"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
)

// Binding is an external account binding (RFC 8555, section 7.3.4) whose MAC may be
// unverified.
type Binding struct {
	Kid string // key identifier of the HMAC key
	URL string // must be that of the newAccount request

	alg    string
	signed *jose.JSONWebSignature
}

// macs returns the algorithms of a binding.
func macs() []string { return []string{"HS256", "HS384", "HS512"} }

// macSize returns the least size of an algorithm's key in bytes (RFC 7518, section 3.2).
func macSize(algorithm string) int {
	switch algorithm {
	case "HS384":
		return 48
	case "HS512":
		return 64
	}
	return 32
}

// ParseBinding parses the member externalAccountBinding of newAccount. It checks the
// form and the header, not yet the MAC. The caller must check URL.
func ParseBinding(raw []byte) (*Binding, error) {
	m, o, err := parse(raw, ByAccount, macs())
	if err != nil {
		return nil, within("externalAccountBinding", err)
	}
	if _, ok := o["nonce"]; ok {
		return nil, malformed("externalAccountBinding: protected: nonce must not be there; leave it out")
	}
	return &Binding{Kid: m.Header.Kid, URL: m.Header.URL, alg: m.Header.Algorithm, signed: m.signed}, nil
}

// Verify verifies the MAC, in constant time, and that the binding is for the account's
// key. Only the key itself counts, not the text of its JWK. The error is a problem of
// the type unauthorized, or malformed if the payload is no key.
func (b *Binding) Verify(hmacKey []byte, account *Key) error {
	if size := macSize(b.alg); len(hmacKey) < size {
		return refused("protected: alg: %s needs an HMAC key of %d bytes; "+
			"use a key of that size, or HS256 with 32", b.alg, size)
	}
	payload, err := b.signed.Verify(hmacKey)
	if err != nil {
		return refused("signature: it is not that of the HMAC key; " +
			"check the key identifier and the HMAC key, which is base64url")
	}
	key, err := ParseKey(payload)
	if err != nil {
		return within("externalAccountBinding: payload", err)
	}
	if subtle.ConstantTimeCompare([]byte(key.thumbprint), []byte(account.thumbprint)) != 1 {
		return refused("payload: it is another key than that of the account; send the JWK that signs newAccount")
	}
	return nil
}

func refused(format string, args ...any) *acme.Problem {
	return &acme.Problem{
		Type: acme.Unauthorized, Status: http.StatusForbidden,
		Detail: "externalAccountBinding: " + fmt.Sprintf(format, args...),
	}
}
