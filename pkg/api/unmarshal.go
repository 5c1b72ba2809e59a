package api

import (
	"encoding/json"
	"errors"
)

// Limits of JSON texts from the other side. A value of three bytes can take
// hundreds in memory, so their number is bounded besides the text's size.
const (
	MaxValues      = 1 << 16 // of one answer of the native API
	MaxListValues  = 1 << 21 // of all pages of a list
	MaxAdminValues = 1 << 22 // of one answer over the admin socket
)

// ErrTooManyValues means that a JSON text was not decoded.
var ErrTooManyValues = errors.New("it holds too many values")

// Unmarshal is json.Unmarshal of a text that holds at most limit values,
// otherwise ErrTooManyValues. It returns the number of values. That is exact
// enough for a bound: an empty text and a scalar count as none.
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
