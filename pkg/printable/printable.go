// Package printable makes foreign text safe for a terminal: comments of keys, problems
// from a CA, output of hooks, answers from DNS.
//
// Line escapes one value for a table or a sentence. Fprintf does so with all its
// arguments. Writer is the last line of defence for the output of commands, logs and
// libraries. It escapes everything that is not printable, except line feeds and tabs.
// No function changes printable text, so printed secrets stay exact. Wrap them in
// Exact, because Fprintf shortens other long values.
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

// MaxLine is the maximum number of runes of a value in the output of Line.
const MaxLine = 4096

// maxMarks is the number of combining marks after one letter that are not escaped.
// More of them would cover the lines above and below.
const maxMarks = 4

// Exact is a text of our own that must not be shortened, such as a token.
type Exact string

// Line returns s as one printable line of at most MaxLine runes. It also escapes line
// feeds and tabs, because they would break a table.
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

// Fprintf formats like fmt.Fprintf. It applies Line to each argument that is or
// contains text.
func Fprintf(w io.Writer, format string, args ...any) (int, error) {
	return io.WriteString(w, Sprintf(format, args...))
}

// Sprintf formats like fmt.Sprintf. It applies Line to each argument that is or
// contains text.
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

// countMarks returns the number of consecutive combining marks, including r.
func countMarks(before int, r rune) int {
	if unicode.Is(unicode.M, r) {
		return before + 1
	}
	return 0
}

// appendRune appends r, the first rune of s. Its escapes are also those of JSON, so
// JSON keeps its meaning. The only exception is a byte that is not UTF-8.
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

// isPlain reports whether r is visible and harmless on a terminal. unicode.IsPrint
// excludes C0 and C1 controls, bidirectional overrides and most invisible characters.
// The other conditions exclude invisible letters.
func isPlain(r rune) bool {
	if r < utf8.RuneSelf {
		return ' ' <= r && r < 0x7f
	}
	return unicode.IsPrint(r) && r != '\u2800' &&
		!unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}
