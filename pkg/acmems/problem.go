package acmems

import "fmt"

// Problem is a fault in one line of a configuration. As a warning, it changes less than its
// author may have meant, and the configuration can be used.
type Problem struct {
	Line int    // from 1; 0 if something is missing
	Text string // section, key, fault and remedy; printable
}

// Error returns the line and the text.
func (p *Problem) Error() string {
	if p.Line == 0 {
		return p.Text
	}
	return fmt.Sprintf("line %d: %s", p.Line, p.Text)
}

// problems collects faults and warnings in the order of discovery.
type problems struct {
	faults   []error // each a *Problem
	warnings []Problem
}

func (p *problems) fail(line int, format string, args ...any) {
	p.faults = append(p.faults, &Problem{line, fmt.Sprintf(format, args...)})
}

func (p *problems) warn(line int, format string, args ...any) {
	p.warnings = append(p.warnings, Problem{line, fmt.Sprintf(format, args...)})
}

// failAt and warnAt report about the key of an option.
func (p *problems) failAt(o option, format string, args ...any) {
	p.fail(o.line, "%s: %s", o.path(), fmt.Sprintf(format, args...))
}

func (p *problems) warnAt(o option, format string, args ...any) {
	p.warn(o.line, "%s: %s", o.path(), fmt.Sprintf(format, args...))
}

func (p *problems) unknown(o option) { p.warnAt(o, "unknown option, which is ignored; remove it") }
