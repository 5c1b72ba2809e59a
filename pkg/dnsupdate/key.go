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

// algorithms lists the algorithms of keys.
var algorithms = []string{dns.HmacSHA256, dns.HmacSHA1, dns.HmacSHA224, dns.HmacSHA384, dns.HmacSHA512}

// String keeps the secret out of logs.
func (k Key) String() string { return k.Name + " (" + k.Algorithm + ")" }

// GoString returns the same text as String.
func (k Key) GoString() string { return k.String() }

// canonical validates a key and returns it as in messages. With an error, it returns the
// variable that is wrong.
func (k Key) canonical() (_ Key, variable string, _ error) {
	if _, ok := dns.IsDomainName(k.Name); !ok {
		return Key{}, envKey, errors.New("the key's name is not a domain name; use one such as acmeproxy")
	}
	k.Name = dns.CanonicalName(k.Name)
	if k.Algorithm == "" {
		k.Algorithm = dns.HmacSHA256
	}
	k.Algorithm = dns.CanonicalName(k.Algorithm)
	if k.Algorithm == "gss-tsig." {
		return Key{}, envAlgorithm, errors.New("GSS-TSIG is not supported; use the provider exec to run nsupdate -g")
	}
	if !slices.Contains(algorithms, k.Algorithm) {
		return Key{}, envAlgorithm, fmt.Errorf("unknown algorithm %q; use one of %s", k.Algorithm, strings.Join(algorithms, ", "))
	}
	if raw, err := base64.StdEncoding.DecodeString(k.Secret); err != nil || len(raw) == 0 {
		return Key{}, envSecret, errors.New("the secret is not base64; copy it as tsig-keygen wrote it, without quotes")
	}
	return k, "", nil
}

// ParseKey parses the first key of a file that tsig-keygen wrote and BIND includes. An
// error does not quote the file.
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

var errNoKey = errors.New("the file has no TSIG key with a name and a secret; use tsig-keygen to write it")

// tokens returns a function that returns the next token, or an empty string at the end.
// A token is a word, a quoted text without its quotes, or one of { } ; characters. It
// skips comments.
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
