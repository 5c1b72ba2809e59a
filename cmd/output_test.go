package cmd

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

// Foreign text cannot break a row or widen the columns of others: each cell except
// the last is shortened.
func TestTableCellsAreCut(t *testing.T) {
	long := strings.Repeat("é", 10*widest)
	var out bytes.Buffer
	table := newTable(&out, "NAMES", "PROBLEM", "DETAIL")
	table.row("a.example.com", "", "short")
	table.row(long, "two\nlines\tand\x1b[2Ja tab", long+"\nremedy")
	table.row(strings.Repeat("b", widest), strings.Repeat("c", widest+1), "")
	if err := table.flush(); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	if len(lines) != 4 {
		t.Fatalf("%d lines, want 4:\n%s", len(lines), out.String())
	}
	for _, line := range lines {
		if strings.ContainsAny(line, "\t\x1b\r") || !utf8.ValidString(line) {
			t.Errorf("not plain: %q", line)
		}
	}
	pad := strings.Repeat(" ", widest+2) // the widest cell and the space between two columns
	want := []string{
		"NAMES" + pad[5:] + "PROBLEM" + pad[7:] + "DETAIL",
		"a.example.com" + pad[13:] + "-" + pad[1:] + "short",
		strings.Repeat("é", widest-1) + "…  " + fmt.Sprintf("%-*s", widest+2, `two\nlines\tand\u001b[2Ja tab`) + long + `\nremedy`,
		strings.Repeat("b", widest) + "  " + strings.Repeat("c", widest-1) + "…  -",
	}
	for i, line := range lines {
		if line != want[i] {
			t.Errorf("line %d is\n%q, want\n%q", i, line, want[i])
		}
	}
}

// A long list of names ends with the number of the omitted ones. A single name is
// not shortened.
func TestListIsCut(t *testing.T) {
	var names []string
	for i := range 100 {
		names = append(names, fmt.Sprintf("host%02d.example.com", i))
	}
	got := list(names, " ")
	shown := strings.Count(got, "host")
	if n := utf8.RuneCountInString(got); n > widest || !strings.HasSuffix(got, fmt.Sprintf("… and %d more", 100-shown)) || shown < 5 {
		t.Errorf("%d characters: %s", n, got)
	}
	if got := list(names[:3], ", "); got != "host00.example.com, host01.example.com, host02.example.com" {
		t.Errorf("got %s", got)
	}
	long := strings.Repeat("a", 2*widest)
	if got := list([]string{long}, " "); got != long {
		t.Errorf("a single name is cut: %s", got)
	}
	if got := list([]string{long, "b"}, " "); got != long+" … and 1 more" {
		t.Errorf("got %s", got)
	}
	if got := list(nil, " "); got != "" {
		t.Errorf("got %q", got)
	}
}
