package rest

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
)

// Bounds of what a problem repeats, in bytes.
const (
	maxText     = 1 << 10 // of one message
	maxWord     = 64      // of a message's words and quoted texts, which may be the caller's own
	maxLocation = 64      // of a location, whose last part may be
)

// mostFaults of a request are told; a body has room for ten thousands.
const maxFaults = 16

// fewFaults bounds what huma repeats of a rejected request.
func limitFaults(_ huma.Context, _ string, v any) (any, error) {
	if m, ok := v.(*huma.ErrorModel); ok {
		limitProblem(m)
	}
	return v, nil
}

// bound is the one place through which every problem goes before it is sent.
func limitProblem(m *huma.ErrorModel) {
	m.Detail = shorten(m.Detail)
	m.Errors = m.Errors[:min(len(m.Errors), maxFaults)]
	for _, e := range m.Errors {
		e.Value = nil
		e.Location = cut(e.Location, maxLocation)
		if strings.HasPrefix(e.Message, unknownType) { // and the header that was sent
			e.Message = unknownType + "; send application/json"
		}
		e.Message = shorten(e.Message)
	}
}

var unknownType = huma.ErrUnknownContentType.Error()

// brief shortens the long words and quoted texts of a message, then the message.
func shorten(text string) string {
	if len(text) <= maxWord {
		return text
	}
	text = text[:min(len(text), 8*maxText)] // the rest cannot matter
	var out strings.Builder
	for len(text) > 0 && out.Len() <= maxText {
		n := wordLen(text)
		word := text[:n]
		if len(word) <= maxWord {
			out.WriteString(word)
		} else {
			out.WriteString(cut(word, maxWord))
			out.WriteString("…")
			if word[0] == '"' {
				out.WriteString(`"`)
			}
		}
		text = text[n:]
	}
	if out.Len() > maxText {
		return cut(out.String(), maxText) + "…"
	}
	return out.String()
}

// wordLen returns the length of what text begins with: a text in quotes as %q writes
// it, a run without white space and quotes, or one white space.
func wordLen(text string) int {
	if text[0] != '"' {
		return max(strings.IndexAny(text+" ", " \t\r\n\""), 1)
	}
	for i := 1; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(text)
}

// cut shortens text to n bytes at most, without splitting a character.
func cut(text string, n int) string {
	if len(text) <= n {
		return text
	}
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n]
}

// formats are huma's, with errors that do not repeat what was sent.
func formats() map[string]huma.Format {
	f := maps.Clone(huma.DefaultFormats)
	for name, format := range f {
		format.Unmarshal = unmarshal
		f[name] = format
	}
	return f
}

func unmarshal(data []byte, v any) error {
	err := json.Unmarshal(data, v)
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &syntax):
		return fmt.Errorf("not JSON from byte %d on; write one JSON object", syntax.Offset)
	case errors.As(err, &kind) && strings.HasPrefix(kind.Value, "number"):
		return fmt.Errorf("a number at byte %d is too large, or no number is expected there", kind.Offset)
	}
	return errors.New("a value is not of the type that its field takes; see /openapi.json")
}
