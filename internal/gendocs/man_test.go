package main

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

// Tables, lists and samples of a help text keep their lines in the man page, and no
// character of a text is lost.
func TestManPagesKeepLines(t *testing.T) {
	pages := tree(t, func(dir string) error { return manPages(dir, time.Unix(1e9, 0)) })
	everyCommand(root(), func(c *cobra.Command) {
		page := plain(pages[strings.ReplaceAll(c.CommandPath(), " ", "-")+".1"])
		for line := range strings.Lines(c.Long) {
			line = strings.TrimSuffix(line, "\n")
			heading := strings.HasPrefix(line, "#") // in cobra's own texts
			if line != "" && !heading && !strings.Contains(page, "\n"+line+"\n") {
				t.Errorf("%s: the page does not have the line %q", c.CommandPath(), line)
			}
			isTable := tableRow.MatchString(strings.TrimSpace(line)) || strings.HasPrefix(line, "       ")
			if isTable && utf8.RuneCountInString(line) > 73 { // man adds 7
				t.Errorf("%s: the table is wider than a terminal: %q", c.CommandPath(), line)
			}
		}
		depth := 0
		for i, line := range strings.Split(page, "\n") {
			switch {
			case line == ".EX":
				depth++
			case line == ".EE":
				depth--
			case depth == 0 && (strings.HasPrefix(line, "  ") || tableRow.MatchString(line)) && !strings.HasPrefix(line, "."):
				t.Errorf("%s: line %d of the page is not in a block: %q", c.CommandPath(), i+1, line)
			}
			if depth < 0 || depth > 1 {
				t.Fatalf("%s: line %d of the page: blocks are nested", c.CommandPath(), i+1)
			}
		}
	})
}

// plain returns a page without the escapes of roff.
func plain(page string) string {
	return strings.NewReplacer(`\-`, "-", `\&`, "", `\\`, `\`, `\[rs]`, `\`, `\(bu`, "•").Replace(page)
}

func TestManPageOptions(t *testing.T) {
	pages := tree(t, func(dir string) error { return manPages(dir, time.Unix(1e9, 0)) })
	for page, want := range map[string]string{
		"acmeproxy.1":            "\n.TP\n\\fB-v\\fP, \\fB--version\\fP\nversion for acmeproxy\n",
		"acmeproxy-clients.1":    "\n\\fBacmeproxy clients COMMAND\\fP\n",
		"acmeproxy-serve.1":      "\n.TP\n\\fB--challenge\\fP \\fItype\\fP (default \"http-01\")\n\\fBtype\\fR of challenge ",
		"acmeproxy-status.1":     "\n.TP\n\\fB--config\\fP \\fIfile\\fP\nconfiguration ",
		"acmeproxy-remote-get.1": "\n.TP\n\\fB--json\\fP\nprint JSON\n",
	} {
		if !strings.Contains(pages[page], want) {
			t.Errorf("%s does not have %q:\n%s", page, want, pages[page])
		}
	}
	for name, page := range pages {
		if option.MatchString(page) {
			t.Errorf("%s has an option whose description is not below it", name)
		}
	}
}

func TestMarkdown(t *testing.T) {
	for text, want := range map[string]string{
		"":                                       "",
		"one *two* _x_ <y>\nlast":                "one \\*two\\* \\_x\\_ \\<y>\nlast\n",
		"a:\n  b: 1\n\n  c: 2\n\nrest":           "a:\n\n```\n  b: 1\n\n  c: 2\n\n```\n\nrest\n",
		"agent    text\n         more\nGoes on.": "\n```\nagent    text\n         more\n```\n\nGoes on.\n",
		"three words come  before a row\nin a paragraph": "three words come  before a row\nin a paragraph\n",
	} {
		if got := markdown(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}
