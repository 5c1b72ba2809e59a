package jws

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
)

// object is a JSON object whose members are distinct.
type object map[string]json.RawMessage

// maxMembers bounds the members of an object. A JWK with all registered ones has 20.
const maxMembers = 64

// parseObject parses a JSON object with nothing after it. encoding/json would take the
// last of several members with the same name, and other parsers take the first.
func parseObject(raw []byte) (object, error) {
	if !utf8.Valid(raw) {
		return nil, errors.New("it is not valid UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("it is not a JSON object")
	}
	o := object{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, errors.New("it is not valid JSON")
		}
		name := t.(string) // the decoder accepts nothing else here
		if _, ok := o[name]; ok {
			return nil, fmt.Errorf("the member %s occurs twice; send it once", quote(name))
		}
		if len(o) == maxMembers {
			return nil, fmt.Errorf("it has more than %d members", maxMembers)
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, errors.New("it is not valid JSON")
		}
		o[name] = value
	}
	if _, err := d.Token(); err != nil {
		return nil, errors.New("it is not valid JSON")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the JSON object; send the object only")
	}
	return o, nil
}

// text returns a member that must be a string and not empty.
func (o object) text(name string) (string, error) {
	raw, ok := o[name]
	if !ok {
		return "", errors.New("it is missing")
	}
	var s string
	if raw[0] != '"' || json.Unmarshal(raw, &s) != nil {
		return "", errors.New("it is not a string")
	}
	if s == "" {
		return "", errors.New("it is empty")
	}
	return s, nil
}

// binary returns a member that must be base64url, which may be empty.
func (o object) binary(name string) ([]byte, error) {
	if string(o[name]) == `""` {
		return nil, nil
	}
	s, err := o.text(name)
	if err != nil {
		return nil, err
	}
	return decode(s)
}

// decode decodes base64url without padding (RFC 7515, section 2).
func decode(s string) ([]byte, error) {
	if strings.Contains(s, "=") {
		return nil, errors.New("it is padded; send base64url without =")
	}
	// The decoder would skip line breaks.
	if strings.ContainsAny(s, "\r\n") {
		return nil, errors.New("it has line breaks; send base64url without them")
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil {
		return nil, errors.New("it is not base64url; use the alphabet with - and _, without padding")
	}
	return b, nil
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// malformed returns the problem of a request whose form is wrong.
func malformed(format string, args ...any) *acme.Problem {
	return &acme.Problem{Type: acme.Malformed, Status: http.StatusBadRequest, Detail: fmt.Sprintf(format, args...)}
}

// quote returns a client's text for a detail: short, and harmless on a terminal.
func quote(s string) string {
	const most = 40
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return fmt.Sprintf("%+q", s)
}
