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

// Answer is what a CA is to be told, by whichever instance it asks.
type Answer struct {
	Type             string `json:"type"`
	Name             string `json:"name"`            // DNS name or IP address
	Token            string `json:"token,omitempty"` // of HTTP-01
	KeyAuthorization string `json:"key_authorization"`
}

// What an item can say.
const (
	hello   = "hello"   // the sender hears from now on: tell it what there is
	here    = "here"    // the sender is still here
	bye     = "bye"     // the sender and its answers go
	put     = "put"     // give this answer, too
	remove  = "remove"  // give the answer with this ID no more
	ack     = "ack"     // the sender gives your answer with this ID
	fetched = "fetched" // a CA fetched your answer with this ID at the sender's
	due     = "due"     // something became due
	news    = "news"    // of the certificate with this ID
)

// item is one thing that an instance tells the others.
type item struct {
	Do     string  `json:"do"`
	ID     string  `json:"id,omitempty"`
	To     string  `json:"to,omitempty"` // whom it is for; empty: everybody
	Answer *Answer `json:"answer,omitempty"`
}

// message is what is sent at once.
type message struct {
	From  string            `json:"from"`
	At    int64             `json:"at"` // milliseconds since 1970, UTC
	Items []json.RawMessage `json:"items"`
}

const (
	// purpose holds the version: instances that differ in it do not hear each other.
	purpose = "acmeproxy peers 1"
	// padding hides how long a name is, and mostly what kind of message it is.
	padding = 512
	// maxMessage is a multiple of padding, and sealed and encoded within MaxText.
	maxMessage = 11 * padding
	maxItems   = maxMessage - 384 // for the bytes of all items; the rest of a message is around them
	maxName    = 128              // of an instance
	maxID      = 64
	maxText    = 1024 // of a token or a key authorization
)

// sealMessage turns a message into a text for Bus.Notify.
func sealMessage(box *seal.Box, m message) (string, error) {
	plain, err := json.Marshal(m)
	if err != nil {
		return "", err
	}
	if len(plain) > maxMessage {
		return "", fmt.Errorf("a message of %d bytes", len(plain))
	}
	padded := bytes.Repeat([]byte{' '}, (len(plain)+padding-1)/padding*padding)
	copy(padded, plain)
	return base64.RawStdEncoding.EncodeToString(box.Seal(padded)), nil
}

// errStrange is of a text that no instance of this version and identity made.
var errUnknownMessage = errors.New("not a message of an instance with this identity and version")

// openMessage is the way back. Nothing of a text is trusted before it is opened;
// then it is checked as strictly as if it were not.
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
		return errors.New("there is more after the message")
	}
	return nil
}

func (m message) age(now time.Time) time.Duration { return now.Sub(time.UnixMilli(m.At)) }

func (it item) check() error {
	if len(it.ID) > maxID || len(it.To) > maxName {
		return errors.New("id, to: too long")
	}
	if (it.Answer != nil) != (it.Do == put) {
		return errors.New("answer: of put, and nothing else")
	}
	switch it.Do {
	case hello, here, bye, due:
		return nil
	case put, remove, ack, fetched, news:
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

// check is for both ends: whoever holds the identity can publish no more than a
// canonical name, a token and what a CA expects there.
func (a Answer) check() error {
	switch {
	case a.Type == acme.HTTP01 && a.Token != "":
	case a.Type == acme.TLSALPN01 && a.Token == "":
	default:
		return errors.New("answer: not of a type that can be shared")
	}
	if name, err := cert.ParseName(a.Name); err != nil || name != a.Name || cert.IsWildcard(name) {
		return errors.New("answer: not for a name as certificates have them")
	}
	if !plainText(a.Token) || a.KeyAuthorization == "" || !plainText(a.KeyAuthorization) {
		return errors.New("answer: not a token and its key authorization")
	}
	return nil
}

// usesToken reports whether a CA asks for an answer by its token, as for HTTP-01.
func usesToken(challengeType string) bool { return challengeType == acme.HTTP01 }

// plainText is base64url and full stops (RFC 8555, section 8.1), not too long.
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
