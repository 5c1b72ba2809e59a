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

// Limits of the text that a problem repeats, in bytes.
const (
	maxText     = 1 << 10 // of one message
	maxWord     = 64      // of a message's words and quoted texts, which may be the caller's own
	maxLocation = 64      // of a location, whose last part may be the caller's own
)

// maxFaults is the maximum number of reported faults. A body can contain ten thousands.
const maxFaults = 16

// limitFaults limits the parts of a rejected request that huma repeats.
func limitFaults(_ huma.Context, _ string, v any) (any, error) {
	if m, ok := v.(*huma.ErrorModel); ok {
		limitProblem(m)
	}
	return v, nil
}

// limitProblem limits the text of a problem. Every problem passes it before it is sent.
func limitProblem(m *huma.ErrorModel) {
	m.Detail = shorten(m.Detail)
	m.Errors = m.Errors[:min(len(m.Errors), maxFaults)]
	for _, e := range m.Errors {
		e.Value = nil
		e.Location = cut(e.Location, maxLocation)
		if strings.HasPrefix(e.Message, unknownType) { // followed by the received header
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
	text = text[:min(len(text), 8*maxText)] // the rest does not affect the result
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

// wordLen returns the length of the first word of text. A word is a quoted text in the
// form of %q, a run without white space and quotes, or one white space.
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

// cut shortens text to at most n bytes, without splitting a character.
func cut(text string, n int) string {
	if len(text) <= n {
		return text
	}
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n]
}

// formats returns huma's formats, with errors that do not repeat the request.
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
		return fmt.Errorf("invalid JSON at byte %d; write one JSON object", syntax.Offset)
	case errors.As(err, &kind) && strings.HasPrefix(kind.Value, "number"):
		return fmt.Errorf("the number at byte %d is too large, or another type is expected", kind.Offset)
	}
	return errors.New("a value has the wrong type for its field; see /openapi.json")
}
