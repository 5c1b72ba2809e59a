package peers

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/seal"
)

// Answer is an answer to a challenge that all instances serve.
type Answer struct {
	Type             string `json:"type"`
	Name             string `json:"name"`            // DNS name or IP address
	Token            string `json:"token,omitempty"` // of HTTP-01
	KeyAuthorization string `json:"key_authorization"`

	// The fields of challenge.ClientAnswer; all empty unless it is one.
	ClientID     string `json:"client,omitempty"`
	CredentialID string `json:"credential,omitempty"`
	Addr         string `json:"addr,omitempty"`
	Until        int64  `json:"until,omitempty"` // milliseconds since 1970, UTC
}

// The values of item.Do.
const (
	hello   = "hello"   // the sender listens from now on and needs all answers
	here    = "here"    // heartbeat of the sender
	bye     = "bye"     // the sender stops; remove its answers
	put     = "put"     // serve this answer
	remove  = "remove"  // stop serving the answer with this ID
	ack     = "ack"     // the sender serves the receiver's answer with this ID
	fetched = "fetched" // a CA fetched the receiver's answer with this ID from the sender
	due     = "due"     // a certificate became due
	news    = "news"    // the certificate with this ID changed
	end     = "end"     // the client withdrew the receiver's answer with this ID; all others remove it, too
	changed = "clients" // clients or their grants changed
)

// item is one part of a message.
type item struct {
	Do     string  `json:"do"`
	ID     string  `json:"id,omitempty"`
	To     string  `json:"to,omitempty"` // receiver; if empty, all instances
	Answer *Answer `json:"answer,omitempty"`
}

// message is the plaintext of one text on the Bus.
type message struct {
	From  string            `json:"from"`
	At    int64             `json:"at"` // milliseconds since 1970, UTC
	Items []json.RawMessage `json:"items"`
}

const (
	// purpose includes the version. Instances with different versions cannot read each
	// other's messages.
	purpose = "acmeproxy peers 1"
	// padding hides the length of names, and mostly the kind of a message.
	padding = 512
	// maxMessage is a multiple of padding. Sealed and encoded, it fits into MaxText.
	maxMessage = 11 * padding
	maxItems   = maxMessage - 384 // for the bytes of all items; the rest is for the other fields
	maxName    = 128              // of an instance
	maxID      = 64
	maxText    = 1024 // of a token or a key authorization
)

// sealMessage encodes and seals a message as a text for Bus.Notify.
func sealMessage(box *seal.Box, m message) (string, error) {
	plain, err := json.Marshal(m)
	if err != nil {
		return "", err
	}
	if len(plain) > maxMessage {
		return "", fmt.Errorf("the message of %d bytes is too long", len(plain))
	}
	padded := bytes.Repeat([]byte{' '}, (len(plain)+padding-1)/padding*padding)
	copy(padded, plain)
	return base64.RawStdEncoding.EncodeToString(box.Seal(padded)), nil
}

// errUnknownMessage reports a text that is not from an instance of this version and
// identity.
var errUnknownMessage = errors.New("not a message of an instance with this identity and version")

// openMessage reverses sealMessage. It checks the content strictly, although only a
// holder of the identity can seal it.
func openMessage(box *seal.Box, text string) (m message, items []item, err error) {
	if len(text) > MaxText {
		return m, nil, errUnknownMessage
	}
	sealed, err := base64.RawStdEncoding.Strict().DecodeString(text)
	if err != nil {
		return m, nil, errUnknownMessage
	}
	plain, err := box.Open(sealed)
	if err != nil {
		return m, nil, errUnknownMessage
	}
	return parseMessage(plain)
}

func parseMessage(plain []byte) (m message, items []item, err error) {
	if len(plain) > maxMessage {
		return m, nil, errUnknownMessage
	}
	if err := parseStrictly(plain, &m); err != nil {
		return m, nil, err
	}
	if m.From == "" || len(m.From) > maxName {
		return m, nil, errors.New("from: not the name of an instance")
	}
	items = make([]item, len(m.Items))
	for i, raw := range m.Items {
		if err := parseStrictly(raw, &items[i]); err != nil {
			return m, nil, err
		}
		if err := items[i].check(); err != nil {
			return m, nil, err
		}
	}
	return m, items, nil
}

func parseStrictly(data []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("unexpected data after the message")
	}
	return nil
}

func (m message) age(now time.Time) time.Duration { return now.Sub(time.UnixMilli(m.At)) }

func (it item) check() error {
	if len(it.ID) > maxID || len(it.To) > maxName {
		return errors.New("id, to: too long")
	}
	if (it.Answer != nil) != (it.Do == put) {
		return errors.New("answer: required for put, and invalid otherwise")
	}
	switch it.Do {
	case hello, here, bye, due, changed:
		return nil
	case put, remove, ack, fetched, news, end:
		if it.ID == "" {
			return errors.New("id: missing")
		}
		if it.Answer != nil {
			return it.Answer.check()
		}
		return nil
	}
	return fmt.Errorf("do: %.20q is unknown", it.Do)
}

// check returns an error for an answer that must not be shared. Sender and receiver
// call it. So a holder of the identity can publish only a canonical name, a token and
// its key authorization.
func (a Answer) check() error {
	switch {
	case a.Type == acme.HTTP01 && a.Token != "":
	case a.Type == acme.TLSALPN01 && a.Token == "":
	default:
		return errors.New("answer: not of a type that can be shared")
	}
	if name, err := cert.ParseName(a.Name); err != nil || name != a.Name || cert.IsWildcard(name) {
		return errors.New("answer: the name is not a canonical identifier")
	}
	if err := a.checkClient(); err != nil {
		return err
	}
	if !plainText(a.Token) || a.KeyAuthorization == "" || !plainText(a.KeyAuthorization) {
		return errors.New("answer: not a token and its key authorization")
	}
	return nil
}

// usesToken reports whether a CA requests an answer by its token, as for HTTP-01.
func usesToken(challengeType string) bool { return challengeType == acme.HTTP01 }

// plainText reports whether s has only base64url characters and full stops (RFC 8555,
// section 8.1), and at most maxText bytes.
func plainText(s string) bool {
	for _, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.':
		default:
			return false
		}
	}
	return len(s) <= maxText
}
