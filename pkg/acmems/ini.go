package acmems

import (
	"strings"
	"unicode/utf8"

	"github.com/acmeproxy/acmeproxy/pkg/printable"
)

// maxLine is the size of the longest line, in bytes. It also bounds each value.
const maxLine = 4 << 10

// option is a key and its value. A key may occur several times.
type option struct {
	line       int
	section    string
	key, value string
}

// path returns the position for a message.
func (o option) path() string { return "[" + printable.Line(o.section) + "] " + printable.Line(o.key) }

// section has the options that follow its header, in their order.
type section struct {
	line    int
	name    string // without brackets, not further interpreted
	options []option
}

// read splits a text into sections. A section that occurs twice has the options of the last
// one at the position of the first one, as in ACMEMS.
func (p *problems) read(text string) []section {
	text = strings.TrimPrefix(text, "\ufeff")
	text = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(text)
	var all []section
	current := -1
	for i, line := range strings.Split(text, "\n") {
		line, number := strings.TrimSpace(line), i+1
		switch {
		case line == "", line[0] == '#', line[0] == ';':
		case !utf8.ValidString(line), len(line) > maxLine:
			p.fail(number, "not a line of text in UTF-8 below %d bytes; fix or remove it", maxLine)
		case line[0] == '[' && line[len(line)-1] == ']':
			all, current = p.open(all, section{line: number, name: line[1 : len(line)-1]})
		case current < 0:
			p.warn(number, "an option before the first section, which is ignored; move it below its section")
		default:
			key, value, ok := strings.Cut(line, "=")
			if !ok {
				p.fail(number, "neither a section, an option with = nor a comment; begin a comment with # on a line of its own")
				continue
			}
			o := option{number, all[current].name, strings.TrimSpace(key), strings.TrimSpace(value)}
			all[current].options = append(all[current].options, o)
		}
	}
	return all
}

// open adds a section, or replaces an earlier one of the same name. It returns its index.
func (p *problems) open(all []section, s section) ([]section, int) {
	for i, earlier := range all {
		if earlier.name == s.name {
			p.warn(s.line, "[%s] begins again, and what is below line %d is ignored; merge them", printable.Line(s.name), earlier.line)
			all[i] = s
			return all, i
		}
	}
	return append(all, s), len(all)
}

// subsection splits the name of a section such as auth "mail". The quotation marks are
// optional.
func (s section) subsection() (kind, name string, ok bool) {
	kind, name, ok = strings.Cut(s.name, " ")
	if !ok || name == "" {
		return "", "", false
	}
	if len(name) > 2 && name[0] == '"' && name[len(name)-1] == '"' {
		name = name[1 : len(name)-1]
	}
	return kind, name, true
}
