package jws

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
)

// Signer says by what a request may be signed. Values can be combined with |.
type Signer int

// The signers of a request.
const (
	ByKey     Signer = 1 << iota // by the key in its header, jwk
	ByAccount                    // by an account, kid
)

// Header is the protected header of a JWS (RFC 8555, section 6.2).
type Header struct {
	Algorithm string // one of Algorithms
	Nonce     string // base64url; empty in the inner JWS of keyChange
	URL       string
	Kid       string // URL of an account; empty if Key is set
	Key       *Key   // nil if Kid is set
}

// Message is a JWS whose signature may be unverified.
type Message struct {
	Header Header
	signed *jose.JSONWebSignature
}

// Algorithms returns the accepted signature algorithms (RFC 7518, RFC 8037).
func Algorithms() []string { return []string{"ES256", "ES384", "RS256", "EdDSA"} }

// maxHeader bounds a protected header in bytes. One with an RSA key of 8192 bits has
// about 2000.
const maxHeader = 16 << 10

// Parse parses the body of a request. It checks the form and the header, not yet the
// signature. The caller must check Header.URL and Header.Nonce.
func Parse(body []byte, by Signer) (*Message, error) {
	m, _, err := parse(body, by, Algorithms())
	if err != nil {
		return nil, err
	}
	if m.Header.Nonce == "" {
		return nil, malformed("protected: nonce is missing; send the last Replay-Nonce")
	}
	return m, nil
}

// ParseInner parses the inner JWS of keyChange (RFC 8555, section 7.3.5). It is signed
// by the new key and has no nonce.
func ParseInner(raw []byte) (*Message, error) {
	m, o, err := parse(raw, ByKey, Algorithms())
	if err != nil {
		return nil, within("payload", err)
	}
	if _, ok := o["nonce"]; ok {
		return nil, malformed("payload: protected: nonce must not be in the inner JWS; leave it out")
	}
	return m, nil
}

// parse parses a JWS and returns the members of its header, too.
func parse(raw []byte, by Signer, algorithms []string) (*Message, object, error) {
	o, err := parseObject(raw)
	if err != nil {
		return nil, nil, malformed("the JWS: %v", err)
	}
	part, err := parts(o)
	if err != nil {
		return nil, nil, err
	}
	protected, err := decode(part[0])
	if err != nil {
		return nil, nil, malformed("protected: %v", err)
	}
	if len(protected) > maxHeader {
		return nil, nil, malformed("protected: it has more than %d bytes; leave out what ACME does not need", maxHeader)
	}
	o, err = parseObject(protected)
	if err != nil {
		return nil, nil, malformed("protected: %v", err)
	}
	h, err := parseHeader(o, by, algorithms)
	if err != nil {
		return nil, nil, err
	}
	// Built from the checked parts, so that go-jose reads what was checked.
	accepted := []jose.SignatureAlgorithm{jose.SignatureAlgorithm(h.Algorithm)}
	signed, err := jose.ParseSignedCompact(strings.Join(part[:], "."), accepted)
	if err != nil {
		return nil, nil, malformed("protected: a member has a wrong type; send alg, nonce, url, and jwk or kid")
	}
	return &Message{h, signed}, o, nil
}

// parts returns protected, payload and signature, still encoded. The payload may be
// empty (RFC 8555, section 6.3).
func parts(o object) (part [3]string, err error) {
	for i, name := range []string{"protected", "payload", "signature"} {
		b, err := o.binary(name)
		if err != nil {
			return part, malformed("%s: %v", name, err)
		}
		if len(b) == 0 && name != "payload" {
			return part, malformed("%s: it is empty", name)
		}
		part[i] = encode(b)
		delete(o, name)
	}
	for name := range o {
		switch name {
		case "header":
			return part, malformed("header: unprotected headers are not allowed; put all members into protected")
		case "signatures":
			return part, malformed("signatures: the general serialization is not allowed; send protected, payload and signature")
		}
		return part, malformed("the JWS: the member %s is not allowed; send protected, payload and signature", quote(name))
	}
	return part, nil
}

func parseHeader(o object, by Signer, algorithms []string) (h Header, err error) {
	for _, name := range []string{"b64", "crit"} {
		if _, ok := o[name]; ok {
			return h, malformed("protected: %s is not supported; leave it out", name)
		}
	}
	if h.Algorithm, err = o.text("alg"); err != nil {
		return h, malformed("protected: alg: %v", err)
	}
	if !slices.Contains(algorithms, h.Algorithm) {
		return h, badAlgorithm(h.Algorithm, algorithms)
	}
	if h.URL, err = o.text("url"); err != nil {
		return h, malformed("protected: url: %v; send the URL of the request", err)
	}
	if _, ok := o["nonce"]; ok {
		if h.Nonce, err = o.text("nonce"); err == nil {
			_, err = decode(h.Nonce)
		}
		if err != nil {
			return h, malformed("protected: nonce: %v", err)
		}
	}
	return h, h.parseSigner(o, by)
}

// parseSigner sets Kid or Key.
func (h *Header) parseSigner(o object, by Signer) (err error) {
	_, hasKid := o["kid"]
	jwk, hasKey := o["jwk"]
	switch {
	case hasKid && hasKey:
		return malformed("protected: it has jwk and kid; send one of them")
	case !hasKid && !hasKey:
		return malformed("protected: it has neither jwk nor kid; send %s", wanted(by))
	case hasKid && by&ByAccount == 0:
		return malformed("protected: kid is not allowed here; send %s", wanted(by))
	case hasKey && by&ByKey == 0:
		return malformed("protected: jwk is not allowed here; send %s", wanted(by))
	case hasKid:
		if h.Kid, err = o.text("kid"); err != nil {
			return malformed("protected: kid: %v", err)
		}
		return nil
	}
	if h.Key, err = ParseKey(jwk); err != nil {
		return within("protected", err)
	}
	return h.Key.suits(h.Algorithm)
}

func wanted(by Signer) string {
	switch by {
	case ByKey:
		return "jwk, the public key"
	case ByAccount:
		return "kid, the URL of the account"
	}
	return "jwk, the public key, or kid, the URL of the account"
}

// Verify verifies the signature with Header.Key, or with the key of the account
// Header.Kid, and returns the payload. It is empty for POST-as-GET.
func (m *Message) Verify(key *Key) (payload []byte, err error) {
	if err := key.suits(m.Header.Algorithm); err != nil {
		return nil, err
	}
	payload, err = m.signed.Verify(key.public)
	if err != nil {
		return nil, malformed("signature: it is not that of the key in jwk or of the account in kid; " +
			"sign protected and payload as they are sent")
	}
	return payload, nil
}

// badAlgorithm returns the problem of RFC 8555, section 6.2.
func badAlgorithm(got string, accepted []string) *acme.Problem {
	return &acme.Problem{
		Type: acme.BadSignatureAlgorithm, Status: http.StatusBadRequest, Algorithms: accepted,
		Detail: fmt.Sprintf("protected: alg: %s is not accepted; use %s", quote(got), strings.Join(accepted, " or ")),
	}
}

// within prefixes the detail of a problem with the field that holds the other one.
func within(field string, err error) error {
	var inner *acme.Problem
	if !errors.As(err, &inner) {
		return fmt.Errorf("%s: %w", field, err)
	}
	p := *inner
	p.Detail = field + ": " + p.Detail
	return &p
}
