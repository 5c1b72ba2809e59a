// Package printable makes foreign text harmless on a terminal: comments of keys,
// problems from a CA, output of hooks, answers from DNS.
//
// Line makes one value fit for a table or a sentence. Fprintf does so with all of
// its arguments. Writer is the last line of defence: whatever a command, a log or
// a library prints passes through it, and only line feeds and tabs stay what
// they are. Neither ever changes a printable text, so secrets that are printed
// for pasting stay exact; wrap them in Exact, which Line does not shorten.
//
//	root.SetOut(printable.NewWriter(os.Stdout))
//	printable.Fprintf(c.OutOrStdout(), "recipient   %s\n", recipient)
package printable

import (
	"fmt"
	"io"
	"reflect"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// MaxLine is the number of runes of a value that Line keeps.
const MaxLine = 4096

// maxMarks is the number of combining marks after one letter that are kept
// unescaped. More of them would grow over the lines above and below.
const maxMarks = 4

// Exact is a text of our own that must be printed whole, such as a token.
type Exact string

// Line returns s as one printable line of at most MaxLine runes. Line feeds and
// tabs are escaped, too: they would break a table.
func Line(s string) string {
	var b strings.Builder
	written, marks := 0, 0
	for i, r := range s {
		if written == MaxLine {
			b.WriteString("…")
			break
		}
		written++
		marks = countMarks(marks, r)
		switch r {
		case '\n':
			b.WriteString(`\n`)
		case '\t':
			b.WriteString(`\t`)
		default:
			appendRune(&b, s[i:], r, marks)
		}
	}
	return b.String()
}

// Fprintf formats like fmt.Fprintf. Each argument that is a text, or has one,
// becomes a Line first.
func Fprintf(w io.Writer, format string, args ...any) (int, error) {
	return io.WriteString(w, Sprintf(format, args...))
}

// Sprintf formats like fmt.Sprintf. Each argument that is a text, or has one,
// becomes a Line first.
func Sprintf(format string, args ...any) string {
	lines := make([]any, len(args))
	for i, arg := range args {
		lines[i] = line(arg)
	}
	return fmt.Sprintf(format, lines...)
}

func line(arg any) any {
	switch v := arg.(type) {
	case nil:
		return nil
	case Exact:
		return string(v)
	case error:
		return Line(v.Error())
	case fmt.Stringer:
		return Line(v.String())
	}
	switch v := reflect.ValueOf(arg); v.Kind() {
	case reflect.String:
		return Line(v.String())
	case reflect.Bool, reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Float32, reflect.Float64:
		return arg
	}
	return Line(fmt.Sprint(arg))
}

// countMarks returns the number of combining marks in a row, r included.
func countMarks(before int, r rune) int {
	if unicode.Is(unicode.M, r) {
		return before + 1
	}
	return 0
}

// appendRune appends r, which begins s. Every escape but that of a byte that is
// not UTF-8 is one of JSON, too: JSON stays what it is.
func appendRune(b *strings.Builder, s string, r rune, marks int) {
	switch {
	case r == utf8.RuneError && !strings.HasPrefix(s, "\uFFFD"):
		fmt.Fprintf(b, `\x%02x`, s[0])
	case isPlain(r) && marks <= maxMarks:
		b.WriteRune(r)
	case r > 0xffff:
		high, low := utf16.EncodeRune(r)
		fmt.Fprintf(b, `\u%04x\u%04x`, high, low)
	default:
		fmt.Fprintf(b, `\u%04x`, r)
	}
}

// isPlain reports whether a terminal shows r as what it is. Controls, C1,
// bidirectional overrides and most invisible characters are not printable; the
// letters that are invisible nevertheless have a list of their own.
func isPlain(r rune) bool {
	if r < utf8.RuneSelf {
		return ' ' <= r && r < 0x7f
	}
	return unicode.IsPrint(r) && r != '\u2800' &&
		!unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}
