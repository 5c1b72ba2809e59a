package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
	"github.com/spf13/pflag"
)

// manPages writes a page for each command.
func manPages(dir string, date time.Time) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var faults []error
	everyCommand(root(), func(c *cobra.Command) {
		name := strings.ReplaceAll(c.CommandPath(), " ", "-") + ".1"
		page, err := manPage(c, date)
		faults = append(faults, err, os.WriteFile(filepath.Join(dir, name), page, 0o644))
	})
	return errors.Join(faults...)
}

func manPage(c *cobra.Command, date time.Time) ([]byte, error) {
	forManPage(c)
	header := doc.GenManHeader{Section: "1", Source: "acmeproxy", Manual: "acmeproxy", Date: &date}
	var page bytes.Buffer
	if err := doc.GenMan(c, &header, &page); err != nil {
		return nil, err
	}
	return options(page.Bytes(), c), nil
}

// option matches the heading of an option's description, which go-md2man writes as a
// paragraph whose second line begins with a tab. It has the option, and a default that
// may be empty.
var option = regexp.MustCompile(`(?m)^(?:\.PP\n)?(\\fB-.*?\\fP)(?:\[=false\]|=""|=\[\]|)(=.*)?\n\t`)

// options makes the options tagged paragraphs, with the description below. The tag has the
// option, the name of its value, and its default.
func options(page []byte, c *cobra.Command) []byte {
	return option.ReplaceAllFunc(page, func(heading []byte) []byte {
		parts := option.FindSubmatch(heading)
		tag, initial := string(parts[1]), strings.TrimPrefix(string(parts[2]), "=")
		if name := optionName.FindStringSubmatch(tag); name != nil {
			if f := c.Flag(name[1]); f != nil {
				if value, _ := pflag.UnquoteUsage(f); value != "" {
					tag += ` \fI` + value + `\fP`
				}
			}
		}
		if initial != "" {
			tag += " (default " + initial + ")"
		}
		return []byte(".TP\n" + tag + "\n")
	})
}

var optionName = regexp.MustCompile(`--([a-z0-9-]+)\\fP$`)

// forManPage changes a command's texts, which are written for a terminal, to Markdown
// that go-md2man renders with the same meaning.
func forManPage(c *cobra.Command) {
	c.Long = markdown(c.Long)
	if c.HasAvailableSubCommands() {
		c.Use += " COMMAND"
		c.DisableFlagsInUseLine = true
	}
}

// tableRow matches the first line of a table's row: a word or two, at least two spaces, and
// the description.
var tableRow = regexp.MustCompile(`^\S+( \S+)?  +\S`)

// markdown returns a help text with its indented lines and tables as code blocks, and
// without the characters that Markdown treats specially.
func markdown(text string) string {
	var out strings.Builder
	inBlock := false
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		block := strings.HasPrefix(line, "  ") || strings.HasPrefix(line, "\t") || tableRow.MatchString(line)
		switch {
		case line == "": // a block may have empty lines
		case block && !inBlock:
			out.WriteString("\n```\n")
			inBlock = true
		case !block && inBlock:
			out.WriteString("```\n\n")
			inBlock = false
		}
		if !inBlock {
			line = special.ReplaceAllString(line, `\$0`)
		}
		out.WriteString(line + "\n")
	}
	if inBlock {
		out.WriteString("```\n")
	}
	return out.String()
}

var special = regexp.MustCompile("[*_`<\\[\\]]")
