package api

import (
	"encoding/json"
	"errors"
)

// Limits of JSON texts from the peer. A value of three bytes can need hundreds in
// memory, so both the number of values and the size of the text are bounded.
const (
	MaxValues      = 1 << 16 // of one answer of the native API
	MaxListValues  = 1 << 21 // of all pages of a list
	MaxAdminValues = 1 << 22 // of one answer over the admin socket
)

// ErrTooManyValues means that a JSON text has more values than allowed and was not
// decoded.
var ErrTooManyValues = errors.New("it holds too many values")

// Unmarshal decodes JSON like json.Unmarshal, but returns ErrTooManyValues if the text
// has more than limit values. It also returns the number of values. This number is
// approximate: an empty text and a scalar count as 0.
func Unmarshal(text []byte, limit int, out any) (values int, err error) {
	if values = countValues(text); values > limit {
		return values, ErrTooManyValues
	}
	return values, json.Unmarshal(text, out)
}

// countValues counts objects, arrays and the commas between values.
func countValues(text []byte) (n int) {
	quoted := false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[' || c == ',':
			n++
		}
	}
	return n
}
