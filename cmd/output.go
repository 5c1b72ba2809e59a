package cmd

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/acmeproxy/acmeproxy/pkg/issuer"
)

// printJSON writes v for machines.
func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// table writes rows under a heading, in columns.
type table struct{ w *tabwriter.Writer }

func newTable(w io.Writer, heading ...string) *table {
	t := &table{tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)}
	t.row(heading...)
	return t
}

func (t *table) row(cells ...string) {
	for i, c := range cells {
		if c == "" {
			cells[i] = "-"
		}
	}
	fmt.Fprintln(t.w, strings.Join(cells, "\t"))
}

func (t *table) flush() error { return t.w.Flush() }

// moment is a time for people: in UTC, to the minute.
func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04 UTC")
}

func optional(t *time.Time) string {
	if t == nil {
		return ""
	}
	return moment(*t)
}

// progress shows the events of an issuance: a live bar on a terminal, a line
// for each event elsewhere.
type progress struct {
	w     io.Writer
	label string
	bar   *progressbar.ProgressBar // nil: lines
}

// newProgress expects about so many events.
func newProgress(w io.Writer, label string, events int) *progress {
	p := &progress{w: w, label: label}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		p.bar = progressbar.NewOptions(events,
			progressbar.OptionSetWriter(w),
			progressbar.OptionSetWidth(20),
			progressbar.OptionSetDescription(label),
			progressbar.OptionShowCount(),
			progressbar.OptionSetElapsedTime(true),
			progressbar.OptionSetPredictTime(false),
			progressbar.OptionClearOnFinish(),
			progressbar.OptionSetRenderBlankState(true),
			progressbar.OptionEnableColorCodes(os.Getenv("NO_COLOR") == ""),
		)
	}
	return p
}

// stageText says what is going on, for people.
var stageText = map[issuer.Stage]string{ //nolint:gochecknoglobals // a constant table
	issuer.Queued:     "waiting for a free place at the proxy",
	issuer.Ordering:   "ordering at the CA",
	issuer.Challenge:  "the CA was told to validate",
	issuer.Validating: "the CA is validating",
	issuer.Finalizing: "validated, sending the CSR",
	issuer.Issuing:    "the CA is signing",
	issuer.Issued:     "issued",
	"registered":      "registered, the proxy keeps it fresh from now on",
	"waiting":         "waiting for the proxy to obtain it",
}

func (p *progress) event(e issuer.Event) {
	text, ok := stageText[e.Stage]
	if !ok {
		text = string(e.Stage)
	}
	if e.Identifier != "" {
		text += " " + e.Identifier
	}
	if p.bar == nil {
		fmt.Fprintf(p.w, "%s: %s\n", p.label, text)
		return
	}
	p.bar.Describe(p.label + ": " + text)
	_ = p.bar.Add(1) // more events than expected do no harm
}

// done takes the bar away.
func (p *progress) done() {
	if p.bar != nil {
		_ = p.bar.Finish()
	}
}
