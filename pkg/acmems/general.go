package acmems

import (
	"log/slog"
	"regexp"
	"strings"

	"github.com/acmeproxy/acmeproxy/pkg/printable"
)

// defaultDirectory is the staging CA of Let's Encrypt, as in ACMEMS.
const defaultDirectory = "https://acme-staging-v02.api.letsencrypt.org/directory"

// parseSetup reads what would load Python code. An include-path alone has no effect.
func (p *parser) parseSetup(s section) {
	for _, o := range s.options {
		switch o.key {
		case "plugin":
			p.failAt(o, "plugins are Python code, which cannot be loaded; remove it together with the options that it adds")
		case "include-path":
			p.warnAt(o, "it has no effect; remove it")
		default:
			p.unknown(o)
		}
	}
}

// parseAccount reads the section of the account. The name of its folder is not checked.
func (p *parser) parseAccount(s section) {
	a := &p.cfg.Account
	var first *option
	for _, o := range s.options {
		switch o.key {
		case "acme-server":
			if first != nil {
				p.failAt(o, "set in line %d already; remove one of the two", first.line)
				continue
			}
			first = &o
			a.Directory = o.value
			if !isURL(o.value) && o.value != "" {
				p.failAt(o, "not a URL; write one such as %s", defaultDirectory)
			}
		case "dir":
			a.Dir = o.value
		case "accept-terms-of-service":
			p.parseTerms(o)
		default:
			p.unknown(o)
		}
	}
	if a.Directory == "" {
		a.Directory = defaultDirectory
	}
	if a.Dir == "" {
		p.fail(s.line, "[account] dir: missing; set it to the folder of account.pem")
	}
}

var inlineComment = regexp.MustCompile(`\s+[#;].*$`)

// parseTerms reads one acceptance. The README of ACMEMS has a comment behind it.
func (p *parser) parseTerms(o option) {
	a := &p.cfg.Account
	value := inlineComment.ReplaceAllString(o.value, "")
	if value != o.value {
		p.warnAt(o, "the comment behind the value is ignored; move it to a line of its own")
	}
	switch all := strings.EqualFold(value, "yes") || strings.EqualFold(value, "true"); {
	case a.AcceptTerms, all && len(a.Terms) > 0:
		p.failAt(o, "both yes and another value; write either yes, or the URLs of the terms that you accept")
	case all:
		a.AcceptTerms = true
	case !isURL(value):
		p.warnAt(o, "neither yes nor a URL, so no terms are accepted by it; write yes, or the URL of the terms")
	default:
		a.Terms = append(a.Terms, value)
	}
}

func isURL(text string) bool {
	host, ok := strings.CutPrefix(text, "https://")
	if !ok {
		host, ok = strings.CutPrefix(text, "http://")
	}
	return ok && host != "" && printable.Line(text) == text && !strings.ContainsAny(text, " \"<>")
}

// Logging describes where and how much is logged.
type Logging struct {
	Level       slog.Level
	Destination Destination
	File        string // if Destination is LogFile
	// Format is a format of Python's logging with % in its style; empty if none is set.
	Format string
}

// Destination is where log messages go.
type Destination string

// The destinations. The values are those of the key destination, except LogFile.
const (
	Stderr  Destination = "stderr"
	Stdout  Destination = "stdout"
	Syslog  Destination = "syslog"
	Journal Destination = "journalctl"
	LogFile Destination = "file"
)

// levels maps the names of levels in Python's logging.
var levels = map[string]slog.Level{
	"": slog.LevelWarn, "NOTSET": slog.LevelDebug, "DEBUG": slog.LevelDebug, "INFO": slog.LevelInfo,
	"WARN": slog.LevelWarn, "WARNING": slog.LevelWarn, "ERROR": slog.LevelError,
	"CRITICAL": slog.LevelError + 4, "FATAL": slog.LevelError + 4,
}

// field matches a field of a format, as Python's logging requires one.
var field = regexp.MustCompile(`(?i)%\(\w+\)[#0+ -]*(\*|\d+)?(\.(\*|\d+))?[diouxefgcrsa%]`)

func (p *parser) parseLogging(s section) {
	l := &p.cfg.Logging
	l.Level, l.Destination = slog.LevelWarn, Stderr
	for _, o := range s.options {
		switch o.key {
		case "level":
			level, ok := levels[strings.ToUpper(o.value)]
			if !ok {
				p.failAt(o, "unknown level %q; use debug, info, warning or error", o.value)
			}
			l.Level = level
		case "destination":
			l.Destination, l.File = destination(o.value)
		case "format":
			l.Format = o.value
			if l.Format != "" && !field.MatchString(l.Format) {
				p.failAt(o, "no field such as %%(message)s in it; add one")
			}
		case "config-file":
			p.warnAt(o, "a configuration of Python's logging cannot be read; use level and destination")
		default:
			p.unknown(o)
		}
	}
}

// destination returns the destination, and the name of the file if it is one.
func destination(value string) (Destination, string) {
	switch d := Destination(value); d {
	case "":
		return Stderr, ""
	case Stderr, Stdout, Syslog, Journal:
		return d, ""
	case "journal":
		return Journal, ""
	}
	return LogFile, value
}
