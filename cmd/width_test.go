package cmd

import (
	"strings"
	"testing"
)

func TestShorten(t *testing.T) {
	for _, c := range []struct {
		text    string
		columns int
		want    string
	}{
		{"www.example.com", 15, "www.example.com"},
		{"www.example.com", 8, "www.exa…"},
		{strings.Repeat("ü", 9), 8, strings.Repeat("ü", 7) + "…"},
		{strings.Repeat("中", 9), 8, strings.Repeat("中", 3) + "…"}, // two columns each
		{"e\u0301e\u0301e\u0301e\u0301", 3, "e\u0301e\u0301…"},    // one column each
		{"a long text with words", 15, "a long text…"},
		{"a long-text-with-one-word", 15, "a long-text-wi…"},
		{"", 8, ""},
	} {
		got := shorten(c.text, c.columns)
		if got != c.want || width(got) > c.columns {
			t.Errorf("shorten(%q, %d) = %q, want %q", c.text, c.columns, got, c.want)
		}
	}
}

// A progress text is never cut in the middle of a word, and never too wide.
func TestFit(t *testing.T) {
	for _, c := range []struct {
		columns int
		want    string
	}{
		{80, "web1.example.com: asked the CA to validate web1.example.com"},
		{50, "asked the CA to validate web1.example.com"},
		{38, "asked the CA to validate"},
		{20, "asked the CA to…"},
		{18, "asked the CA to…"},
		{3, "…"},
	} {
		const name, text = "web1.example.com", "asked the CA to validate"
		if got := fit(c.columns, name+": "+text+" "+name, text+" "+name, text); got != c.want {
			t.Errorf("%d columns: %q, want %q", c.columns, got, c.want)
		}
	}
	if got := fit(10, "漢字 漢字漢字"); got != "漢字…" {
		t.Errorf("wide characters: %q", got)
	}
	for stage, text := range stageText {
		if columns := 80 - barColumns - restColumns; width(text) > columns {
			t.Errorf("%s: %q does not fit a terminal of 80 columns", stage, text)
		}
	}
}

func TestWrap(t *testing.T) {
	const text = "web1.example.com: asked the CA to validate web1.example.com"
	for columns, want := range map[int]string{
		0:  text,
		80: text,
		40: "web1.example.com: asked the CA to\n  validate web1.example.com",
		10: "web1.example.com:\n  asked\n  the CA\n  to\n  validate\n  web1.example.com",
	} {
		if got := wrap(text, columns); got != want {
			t.Errorf("%d columns:\n%s\nwant:\n%s", columns, got, want)
		}
	}
}
