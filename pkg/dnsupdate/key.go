package dnsupdate

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// Key is a TSIG key.
type Key struct {
	Name      string // lower-case, with a full stop at the end
	Algorithm string // one of algorithms
	Secret    string `json:"-"` // base64
}

// algorithms are what a key may be used with.
var algorithms = []string{dns.HmacSHA256, dns.HmacSHA1, dns.HmacSHA224, dns.HmacSHA384, dns.HmacSHA512}

// String keeps the secret out of logs.
func (k Key) String() string { return k.Name + " (" + k.Algorithm + ")" }

// GoString does as String.
func (k Key) GoString() string { return k.String() }

// canonical checks a key and spells it as it goes onto the wire; an error comes
// with the variable that is to blame.
func (k Key) canonical() (_ Key, variable string, _ error) {
	if _, ok := dns.IsDomainName(k.Name); !ok {
		return Key{}, envKey, errors.New("a key's name has to look like a domain name, such as acmeproxy")
	}
	k.Name = dns.CanonicalName(k.Name)
	if k.Algorithm == "" {
		k.Algorithm = dns.HmacSHA256
	}
	k.Algorithm = dns.CanonicalName(k.Algorithm)
	if k.Algorithm == "gss-tsig." {
		return Key{}, envAlgorithm, errors.New("there is no GSS-TSIG; let the provider exec run nsupdate -g")
	}
	if !slices.Contains(algorithms, k.Algorithm) {
		return Key{}, envAlgorithm, fmt.Errorf("there is no %q; write one of %s", k.Algorithm, strings.Join(algorithms, ", "))
	}
	if raw, err := base64.StdEncoding.DecodeString(k.Secret); err != nil || len(raw) == 0 {
		return Key{}, envSecret, errors.New("the secret is not base64; copy it as tsig-keygen wrote it, without quotes")
	}
	return k, "", nil
}

// ParseKey reads the first key of a file as tsig-keygen writes it, and as BIND
// includes it. An error does not quote the file.
func ParseKey(text string) (Key, error) {
	var k Key
	next := tokens(text)
	for token := next(); token != "key"; token = next() {
		if token == "" {
			return k, errNoKey
		}
	}
	k.Name = next()
	if next() != "{" {
		return k, errNoKey
	}
	for {
		switch next() {
		case "algorithm":
			k.Algorithm = next()
		case "secret":
			k.Secret = next()
		case "}", "":
			if k.Name == "" || k.Secret == "" {
				return k, errNoKey
			}
			return k, nil
		}
	}
}

var errNoKey = errors.New("there is no TSIG key with a name and a secret in it; write it with tsig-keygen")

// tokens returns words, quoted texts without their quotes, and the signs { } ;
// one after the other, and nothing at the end. Comments are left out.
func tokens(text string) func() string {
	return func() string {
		for {
			text = strings.TrimLeft(text, " \t\r\n")
			switch {
			case strings.HasPrefix(text, "#"), strings.HasPrefix(text, "//"):
				_, text, _ = strings.Cut(text, "\n")
				continue
			case strings.HasPrefix(text, "/*"):
				_, text, _ = strings.Cut(text[2:], "*/")
				continue
			}
			break
		}
		var token string
		switch {
		case text == "":
		case text[0] == '"':
			token, text, _ = strings.Cut(text[1:], `"`)
		case strings.ContainsRune("{};", rune(text[0])):
			token, text = text[:1], text[1:]
		default:
			end := strings.IndexAny(text, " \t\r\n{};\"")
			if end < 0 {
				end = len(text)
			}
			token, text = text[:end], text[end:]
		}
		return token
	}
}
