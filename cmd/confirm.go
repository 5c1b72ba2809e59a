package cmd

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"
)

// errNotConfirmed is the answer no to a question.
var errNotConfirmed = errors.New("not confirmed, nothing was changed; answer y, or use --yes")

// yesFlag binds the flag that answers confirm's question.
func yesFlag(fs *pflag.FlagSet, yes *bool) {
	fs.BoolVarP(yes, "yes", "y", false, "do not ask for confirmation, which a terminal does otherwise")
}

// atTerminal reports whether a person can answer a question.
func atTerminal(c *cobra.Command) bool {
	f, ok := c.InOrStdin().(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// confirm asks a question on standard error and returns nil if the answer is yes. It
// does not ask if yes is true or if standard input is no terminal, so that scripts
// work without --yes. A command asks before its first change.
func confirm(c *cobra.Command, yes bool, question string, args ...any) error {
	if yes || !atTerminal(c) {
		return nil
	}
	printErrf(c, question+" [y/N] ", args...)
	answer, err := readLine(c.Context(), c.InOrStdin())
	if err != nil {
		printErrf(c, "\n")
		return err
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return errNotConfirmed
}

// readLine reads one line. An interrupt ends the wait; the reader then stays blocked
// until the process ends.
func readLine(ctx context.Context, r io.Reader) (string, error) {
	type result struct {
		line string
		err  error
	}
	read := make(chan result, 1)
	go func() {
		line, err := bufio.NewReader(r).ReadString('\n')
		if errors.Is(err, io.EOF) { // Ctrl-D: what was written before it counts
			err = nil
		}
		read <- result{line, err}
	}()
	select {
	case got := <-read:
		return got.line, got.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}
