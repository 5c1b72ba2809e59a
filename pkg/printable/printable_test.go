package printable_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/acmeproxy/acmeproxy/pkg/printable"
)

// A5: each kind of text that a terminal obeys is escaped, by Line and by Writer.
func TestEscapes(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"plain text, \\ and \"":                 "plain text, \\ and \"",
		"Grüße, 日本 ✓ … →":                       "Grüße, 日本 ✓ … →",
		"e\u0301":                               "e\u0301",
		"a\x1b[2Jb":                             `a\u001b[2Jb`,
		"a\x1b]0;title\ab":                      `a\u001b]0;title\u0007b`,
		"a\rb\bc\x7f\x00":                       `a\u000db\u0008c\u007f\u0000`,
		"a\u009b31mb\u0085":                     `a\u009b31mb\u0085`,
		"a\x9b31mb\xff":                         `a\x9b31mb\xff`,
		"a\u202eb\u2066c\u2069":                 `a\u202eb\u2066c\u2069`,
		"a\u200b\u200d\ufeffb":                  `a\u200b\u200d\ufeffb`,
		"a\u2028b\u2029\u00a0":                  `a\u2028b\u2029\u00a0`,
		"a\u3164b\u2800\ufe0f":                  `a\u3164b\u2800\ufe0f`,
		"a\U000e0041b":                          `a\udb40\udc41b`,
		"\uFFFD":                                "\uFFFD",
		"Z\u0335\u0336\u0337\u0338\u0339\u033a": "Z\u0335\u0336\u0337\u0338\\u0339\\u033a",
	} {
		if got := printable.Line(in); got != want {
			t.Errorf("Line(%q) = %q, want %q", in, got, want)
		}
		var out bytes.Buffer
		w := printable.NewWriter(&out)
		for i := range len(in) { // each byte alone
			if n, err := w.Write([]byte(in[i : i+1])); n != 1 || err != nil {
				t.Fatal(n, err)
			}
		}
		if err := w.Flush(); err != nil || out.String() != want {
			t.Errorf("Writer made %q of %q, want %q", out.String(), in, want)
		}
	}
	if got, want := printable.Line("a\tb\nc"), `a\tb\nc`; got != want {
		t.Errorf("Line kept white space: %q", got)
	}
}

// A5: a long value is cut, a secret is not; what Fprintf prints has the lines of
// its format only.
func TestFprintf(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("日", 3*printable.MaxLine)
	if got := printable.Line(long); utf8.RuneCountInString(got) != printable.MaxLine+1 || !strings.HasSuffix(got, "…") {
		t.Errorf("Line kept %d runes", utf8.RuneCountInString(got))
	}
	token := strings.Repeat("x", 3*printable.MaxLine)
	type named string
	var out bytes.Buffer
	_, err := printable.Fprintf(&out, "%s %v %s %d %v %s %t\n%s", "a\nb", errors.New("c\nd"), named("e\nf"), 7,
		[]string{"g\nh"}, bytes.NewBufferString("i\tj"), true, printable.Exact(token))
	if want := `a\nb c\nd e\nf 7 [g\nh] i\tj true` + "\n" + token; err != nil || out.String() != want {
		t.Errorf("got %q, %v", out.String(), err)
	}
}

// A5: JSON means the same when it went through a Writer, and has nothing in it
// that a terminal obeys.
func FuzzWriterKeepsJSON(f *testing.F) {
	f.Add("a\x1b[2J\u009b\u202e\U000e0041\x7f\xff\u2028 \\u001b \"")
	f.Fuzz(func(t *testing.T, s string) {
		var before string
		text, err := json.Marshal(s)
		if err != nil || json.Unmarshal(text, &before) != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		w := printable.NewWriter(&out)
		_, err = w.Write(text)
		if err := errors.Join(err, w.Flush()); err != nil {
			t.Fatal(err)
		}
		var after string
		if err := json.Unmarshal(out.Bytes(), &after); err != nil || after != before {
			t.Errorf("%q became %q: %v", before, after, err)
		}
		harmless(t, out.String())
		harmless(t, printable.Line(s))
	})
}

func harmless(t *testing.T, s string) {
	t.Helper()
	if !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		t.Errorf("printed %q", s)
	}
}
