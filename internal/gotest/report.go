package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// event is a line of go test -json; see go doc test2json.
type event struct {
	Action  string
	Package string
	Test    string
	Output  string
}

// test identifies a test. Its name is empty for output of the whole package.
type test struct{ pkg, name string }

func (t test) String() string {
	if t.name == "" {
		return t.pkg
	}
	return t.pkg + " " + t.name
}

// report turns events into text. It stores the output of a test until the test ends,
// and prints that of failed ones.
type report struct {
	w       io.Writer
	verbose bool
	err     error // of the first failed write

	output  map[test]*strings.Builder // of tests that have not ended
	ran     bool                      // there was a test
	failed  []test
	final   bool              // a failure would not go away if the test ran again
	passed  map[string]bool   // packages whose failed tests passed when they ran again
	skipped map[string][]test // by reason
}

func newReport(w io.Writer, verbose bool) *report {
	return &report{
		w: w, verbose: verbose, output: map[test]*strings.Builder{},
		passed: map[string]bool{}, skipped: map[string][]test{},
	}
}

// read handles all events. A line that is no event is printed as it is.
func (r *report) read(in io.Reader) error {
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			var e event
			if json.Unmarshal([]byte(line), &e) != nil {
				r.print(line)
			} else {
				r.event(e)
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (r *report) event(e event) {
	t := test{e.Package, e.Test}
	r.ran = r.ran || t.name != ""
	switch e.Action {
	case "output", "build-output":
		r.line(t, e.Output)
	case "pass":
		r.end(t, false)
	case "skip":
		if t.name != "" { // otherwise the package has no tests
			reason := skipReason(r.text(t))
			r.skipped[reason] = append(r.skipped[reason], t)
		}
		r.end(t, false)
	case "fail":
		named := slices.ContainsFunc(r.failed, func(f test) bool { return f.pkg == t.pkg })
		if t.name != "" || !named { // such as a package that cannot be built
			r.failed = append(r.failed, t)
			r.final = r.final || t.name == ""
		}
		r.end(t, true)
	}
}

// line prints a line of a package's output, or stores that of a test.
func (r *report) line(t test, text string) {
	if r.verbose || t.name == "" && text != "PASS\n" {
		r.print(text)
	}
	if t.name == "" {
		return
	}
	if r.output[t] == nil {
		r.output[t] = new(strings.Builder)
	}
	r.output[t].WriteString(text)
}

// end handles the end of a test, or of a package with the tests that have not ended,
// as after a panic.
func (r *report) end(t test, failed bool) {
	if t.name != "" {
		r.show(t, failed)
		return
	}
	for _, left := range slices.SortedFunc(maps.Keys(r.output), func(a, b test) int { return strings.Compare(a.name, b.name) }) {
		if left.pkg == t.pkg {
			r.show(left, failed)
		}
	}
}

// show prints the output of a failed test. A data race may be reported while another
// test runs, which passes.
func (r *report) show(t test, failed bool) {
	text := r.text(t)
	delete(r.output, t)
	// A program that a script runs ends with 66 after a race, and its report may be in a file.
	race := strings.Contains(text, "WARNING: DATA RACE") || strings.Contains(text, "exit status 66")
	r.final = r.final || race || failed && strings.Contains(text, "panic: ")
	if r.verbose || !failed && !race {
		return
	}
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "=== ") {
			r.print(line)
		}
	}
}

func (r *report) text(t test) string {
	if b := r.output[t]; b != nil {
		return b.String()
	}
	return ""
}

func (r *report) print(text string) {
	if _, err := io.WriteString(r.w, text); r.err == nil {
		r.err = err
	}
}

// place is where a test logs, and how ours say that they do not run.
var place = regexp.MustCompile(`^\s*[^\s:]+\.go:\d+: (?:SKIP: |NOT TESTED: )?`)

// skipReason returns the last message of a skipped test.
func skipReason(output string) string {
	reason := ""
	for line := range strings.Lines(output) {
		line = strings.TrimRight(line, "\n")
		if at := place.FindString(line); at != "" {
			reason = line[len(at):]
		}
	}
	if reason == "" {
		return "no reason given"
	}
	return reason
}

// again is how many failed tests may run once more. More of them are no accident.
const again = 3

// unsteady returns the names of failed tests that may pass when they run alone, by
// package. It returns none if one of the failures is final.
func (r *report) unsteady() map[string][]string {
	byPackage, total := map[string][]string{}, 0
	for _, t := range r.failed {
		name, _, _ := strings.Cut(t.name, "/")
		if !slices.Contains(byPackage[t.pkg], name) {
			byPackage[t.pkg] = append(byPackage[t.pkg], name)
			total++
		}
	}
	if r.final || total > again {
		return nil
	}
	return byPackage
}

// summary prints which tests failed and which were skipped, grouped by the reason.
func (r *report) summary() {
	var failed, unsteady []test
	for _, t := range r.failed {
		if r.passed[t.pkg] {
			unsteady = append(unsteady, t)
		} else {
			failed = append(failed, t)
		}
	}
	r.list("failed", failed)
	r.list("unsteady: failed, but passed alone; make them steady", unsteady)
	total := 0
	for _, tests := range r.skipped {
		total += len(tests)
	}
	switch {
	case !r.ran:
		return
	case total == 0:
		r.print("\nno test was skipped\n")
		return
	}
	r.print(fmt.Sprintf("\nskipped tests (%d), by reason:\n", total))
	for _, reason := range slices.Sorted(maps.Keys(r.skipped)) {
		r.print("  " + reason + "\n")
		for _, t := range r.skipped[reason] {
			r.print("    " + t.String() + "\n")
		}
	}
}

// list prints tests under a heading, if there are any.
func (r *report) list(heading string, tests []test) {
	if len(tests) == 0 {
		return
	}
	r.print(fmt.Sprintf("\n%s (%d):\n", heading, len(tests)))
	for _, t := range tests {
		r.print("  " + t.String() + "\n")
	}
}
