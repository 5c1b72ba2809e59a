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

// printf prints to standard output. It escapes control characters in args; pass a
// token as printable.Exact.
func printf(c *cobra.Command, format string, args ...any) (int, error) {
	return printable.Fprintf(c.OutOrStdout(), format, args...)
}

// printErrf prints to standard error, like printf.
func printErrf(c *cobra.Command, format string, args ...any) {
	printable.Fprintf(c.ErrOrStderr(), format, args...)
}

// warn prints a warning to standard error, unless it is empty.
func warn(c *cobra.Command, what string) {
	if what != "" {
		printErrf(c, "acmeproxy: warning: %s\n", what)
	}
}

// printJSON writes v as indented JSON.
func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// table writes rows in columns below a heading.
type table struct{ w *tabwriter.Writer }

func newTable(w io.Writer, heading ...string) *table {
	t := &table{tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)}
	t.row(heading...)
	return t
}

// widest is the maximum number of columns of a cell, so that one long row does
// not widen the columns of all others. The last cell of a row is not shortened,
// because an error's remedy is at its end. --json prints everything.
const widest = 200

func (t *table) row(cells ...string) {
	for i, c := range cells {
		cells[i] = printable.Line(c)
		if i < len(cells)-1 {
			cells[i] = shorten(cells[i], widest)
		}
		if c == "" {
			cells[i] = "-"
		}
	}
	fmt.Fprintln(t.w, strings.Join(cells, "\t"))
}

// list joins as many names as fit into a cell of a table.
func list(names []string, sep string) string {
	const tail = 24 // length of "… and N more"
	columns := 0
	for i, name := range names {
		if columns += width(name) + len(sep); columns > widest-tail && i > 0 {
			return fmt.Sprintf("%s… and %d more", strings.Join(names[:i], sep)+sep, len(names)-i)
		}
	}
	return strings.Join(names, sep)
}

func (t *table) flush() error { return t.w.Flush() }

// moment formats a time in UTC, to the minute.
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
