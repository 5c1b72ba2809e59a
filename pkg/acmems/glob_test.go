package acmems

import (
	"strings"
	"testing"
	"time"
)

// Patterns match as in Python's fnmatch, which computed this table (M21).
func TestGlob(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{`*.example.org`, `a.b.example.org`, true},
		{`*.example.org`, `example.org`, false},
		{`*.example.org`, `*.example.org`, true},
		{`*`, `a`, true},
		{``, ``, true},
		{``, `a`, false},
		{`mail?.example.org`, `mail1.example.org`, true},
		{`mail?.example.org`, `mail.example.org`, false},
		{`w[0-9].b`, `w5.b`, true},
		{`w[!0-9].b`, `w5.b`, false},
		{`w[!0-9].b`, `wx.b`, true},
		{`[`, `[`, true},
		{`[]`, `[]`, true},
		{`[]]`, `]`, true},
		{`[!]]`, `]`, false},
		{`[!]]`, `a`, true},
		{`[z-a]`, `z`, false},
		{`[!z-a]`, `z`, true},
		{`[a-c-e]`, `-`, true},
		{`[a-c-e]`, `d`, false},
		{`[--a]`, `.`, true},
		{`[a-]`, `-`, true},
		{`[^a]`, `^`, true},
		{`[^a]`, `b`, false},
		{`[*]`, `*`, true},
		{`[*]`, `a`, false},
		{`\*`, `\a`, true},
		{`a*b*a`, `aabba`, true},
		{`**`, `x`, true},
		{`[a`, `[a`, true},
		{`[!`, `[!`, true},
		{`*z?zz`, `a]-\`, false},
		{`.`, ``, false},
		{`]-[`, `b^-a`, false},
		{`-[*.[.`, ``, false},
		{`^^`, `..a`, false},
		{`a--..*?`, `!`, false},
		{`\-.z-[`, `a*`, false},
		{`..*b`, `z^`, false},
		{`a^\z?`, ``, false},
		{`?*]`, `.]`, true},
		{`z.a*`, ``, false},
		{`?[a![?`, `^a]`, false},
		{`z`, `^`, false},
		{`b-`, `*!*`, false},
		{`*]b^z`, `za`, false},
		{`b-?!`, `*.*z`, false},
		{`!b*\?*`, `b`, false},
		{`.zz*].`, ``, false},
		{`^`, `[a-^`, false},
		{`*]\`, `.a\`, false},
		{`]`, `-.`, false},
		{`?`, `]`, true},
		{`?`, `*`, true},
		{`?`, `*`, true},
		{`*[^\]?`, `!*^a`, true},
		{`?`, `*`, true},
		{`*z`, `z`, true},
		{`*-?`, `]^--`, true},
		{`?`, `b`, true},
		{`-*`, `-a]!`, true},
		{`?`, `^`, true},
		{`*?`, `z\![`, true},
		{`\?`, `\[`, true},
		{`?`, `.`, true},
		{`.*`, `..`, true},
		{`?`, `[`, true},
		{`!`, `!`, true},
		{`*a`, `a`, true},
		{`*?`, `[]a*`, true},
	} {
		if got := parseGlob(c.pattern).matches(c.name); got != c.want {
			t.Errorf("%q matches %q: %v", c.pattern, c.name, got)
		}
	}
}

// The case of letters does not count, unlike in ACMEMS (M21).
func TestGlobFoldsCase(t *testing.T) {
	t.Parallel()
	for _, pattern := range []string{"*.Example.ORG", "[a-c].example.org", "[A-C].example.org", "[!x].EXAMPLE.org"} {
		if !parseGlob(pattern).matches("a.example.org") {
			t.Error(pattern)
		}
	}
	if parseGlob("[!A].example.org").matches("a.example.org") {
		t.Error("a set that excludes a letter has it in the other case")
	}
}

// No pattern takes exponential time.
func TestGlobTime(t *testing.T) {
	t.Parallel()
	begin := time.Now()
	g := parseGlob(strings.Repeat("*a", 1000) + "b")
	if g.matches(strings.Repeat("a", 4000)) {
		t.Error("it matches")
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("%v", took)
	}
}
