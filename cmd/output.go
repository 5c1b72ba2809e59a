package cmd

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/acmeproxy/acmeproxy/pkg/printable"
)

// printf prints to standard output. Foreign text in args becomes harmless; a
// token is printable.Exact.
func printf(c *cobra.Command, format string, args ...any) (int, error) {
	return printable.Fprintf(c.OutOrStdout(), format, args...)
}

// printErrf prints to standard error, like printf.
func printErrf(c *cobra.Command, format string, args ...any) {
	printable.Fprintf(c.ErrOrStderr(), format, args...)
}

// warn prints what is not safe, and yet works; nothing if it is empty.
func warn(c *cobra.Command, what string) {
	if what != "" {
		printErrf(c, "acmeproxy: warning: %s\n", what)
	}
}

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
		cells[i] = printable.Line(c)
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
