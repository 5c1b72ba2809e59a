// Package bodymac authenticates the body of a request by an HMAC (RFC 2104) in its header,
// which scripts compute with openssl dgst:
//
//	Authentication: hmac name=sha256, hash=47d5066525a2…
//
// The HMAC covers the bytes of the body and nothing else. So it is valid for each request
// with the same body, until the key changes. It must never appear in a log, because the
// reader of a log could send the request again.
//
//	mac, ok := bodymac.ParseHeader(r.Header.Get(bodymac.Header))
//	if ok && mac.Type == bodymac.SHA256 && mac.Verify(key, body) { … }
package bodymac

import (
	"crypto/hmac"
	"encoding/hex"
	"strings"
)

// Header is the header of a request that has the HMAC. The name is that of ACMEMS.
const Header = "Authentication"

const (
	scheme   = "hmac"
	maxValue = 4 << 10 // bytes of a header
)

// MAC is the HMAC that a caller sent. The zero value is valid for no body.
type MAC struct {
	Type Type
	sum  []byte
}

// ParseHeader parses the value of the header. Options other than name and hash are ignored.
// They follow in any order, with a comma or a space between them. It returns false if the
// value is not of this kind; then the caller has sent no HMAC.
func ParseHeader(value string) (MAC, bool) {
	rest, ok := strings.CutPrefix(value, scheme)
	if !ok || len(value) > maxValue || rest == "" || !isSeparator(rune(rest[0])) {
		return MAC{}, false
	}
	var m MAC
	for _, option := range strings.FieldsFunc(rest, isSeparator) {
		key, text, ok := strings.Cut(option, "=")
		switch {
		case !ok:
			return MAC{}, false
		case key == "name":
			m.Type = typeOf(text)
		case key == "hash":
			sum, err := hex.DecodeString(text)
			if err != nil {
				return MAC{}, false
			}
			m.sum = sum
		}
	}
	return m, m.Type != "" && len(m.sum) > 0
}

func isSeparator(r rune) bool { return r == ' ' || r == '\t' || r == ',' }

// Verify reports whether the HMAC of body with this key is the one that was sent. The time
// that it takes does not depend on the difference.
func (m MAC) Verify(key, body []byte) bool {
	create := hashes[m.Type]
	if create == nil || len(key) == 0 {
		return false
	}
	h := hmac.New(create, key)
	h.Write(body)
	return hmac.Equal(h.Sum(nil), m.sum)
}

// String keeps the HMAC out of logs.
func (m MAC) String() string { return scheme + " " + string(m.Type) }

// GoString returns the same text as String.
func (m MAC) GoString() string { return m.String() }
