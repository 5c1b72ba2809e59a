package config

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// syntaxFault is a text that is not YAML.
type syntaxFault struct {
	line int // 0 if unknown
	text string
}

func (f *syntaxFault) Error() string { return f.text }

// place returns the file, and the line if it is known.
func (f *syntaxFault) place(file string) string {
	if f.line == 0 {
		return file
	}
	return file + ":" + strconv.Itoa(f.line)
}

// syntaxRemedies are the remedies for errors of the YAML parser, by a part of the error.
var syntaxRemedies = []struct{ part, remedy string }{
	{"mapping values are not allowed", `indent the line like its neighbours, and write text that contains ": " in quotes`},
	{"expected alphabetic or numeric character", "write text that begins with * or & in quotes"},
	{"unknown anchor", "write text that begins with * in quotes"},
	{"cannot start any token", "write text that begins with @, % or ` in quotes"},
	{"could not find expected ':'", "write a colon and a space behind the key"},
	{"expected key", "indent the lines here alike"},
	{"'-' indicator", "indent the lines here alike"},
	{"sequence entries are not allowed", "write the dash on a line of its own, below the key"},
	{"expected ','", "close the bracket, and separate entries by commas"},
	{"end of stream", "close the quotes"},
	{"escape character", `use single quotes, in which \ has no special meaning`},
	{"UTF", "save the file as UTF-8"},
	{"control characters", "save the file as UTF-8, without control characters"},
}

// lineNumber matches the beginning of the parser's error.
var lineNumber = regexp.MustCompile(`^line (\d+): `)

// syntaxError returns the parser's error with its line and a remedy, in one line.
func syntaxError(err error, data []byte) error {
	text := strings.Join(strings.Fields(strings.TrimPrefix(err.Error(), "yaml: ")), " ")
	f := &syntaxFault{}
	if found := lineNumber.FindStringSubmatch(text); found != nil {
		f.line, _ = strconv.Atoi(found[1]) // of digits only
		text = text[len(found[0]):]
		if strings.HasPrefix(text, "did not find expected ") && !strings.Contains(text, "character") { // counted from 0
			f.line++
		}
	} else if !strings.Contains(text, "anchor") && !strings.Contains(text, "UTF") && !strings.Contains(text, "control") {
		f.line = 1
	}
	tab := tabIndented(data)
	if tab > 0 && (tab == f.line || strings.Contains(text, "tab character") || strings.Contains(text, "cannot start any token")) {
		f.line, f.text = tab, "a tab indents this line; use spaces"
		return f
	}
	remedy := "check the indentation and the quotes"
	for _, r := range syntaxRemedies {
		if strings.Contains(text, r.part) {
			remedy = r.remedy
			break
		}
	}
	f.text = fmt.Sprintf("not YAML: %s; %s", text, remedy)
	return f
}

// tabIndented returns the number of the first line with a tab before its text, or 0.
func tabIndented(data []byte) int {
	number := 0
	for line := range bytes.Lines(data) {
		number++
		text := bytes.TrimLeft(line, " \t")
		if bytes.Contains(line[:len(line)-len(text)], []byte("\t")) && len(bytes.TrimSpace(text)) > 0 {
			return number
		}
	}
	return 0
}
