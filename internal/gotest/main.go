// Command gotest runs go test -json and prints what go test prints without -json,
// and at the end which tests failed and which were skipped, with the reason.
//
//	go run ./internal/gotest go test -json ./...
//
// Its exit code is that of go test. With -v or -bench among the arguments it prints the
// output of all tests.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
)

func main() {
	// The terminal sends Ctrl-C to the command as well, and we print how it ends.
	signal.Notify(make(chan os.Signal, 1), os.Interrupt)
	code, err := run(os.Args[1:], os.Stdout, os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "gotest:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// run runs the command and returns its exit code.
func run(command []string, stdout, stderr io.Writer) (int, error) {
	if len(command) == 0 {
		return 2, errors.New("no command; use go test -json with its arguments")
	}
	c := exec.CommandContext(context.Background(), command[0], command[1:]...) //nolint:gosec // running its arguments is its purpose
	c.Stdin, c.Stderr = os.Stdin, stderr
	events, err := c.StdoutPipe()
	if err != nil {
		return 1, err
	}
	if err := c.Start(); err != nil {
		return 1, err
	}
	verbose := slices.ContainsFunc(command, func(arg string) bool {
		name := "-" + strings.TrimLeft(arg, "-")
		return name == "-v" || name == "-v=true" || strings.HasPrefix(name, "-bench")
	})
	r := newReport(stdout, verbose)
	reading := r.read(events)
	if reading != nil { // go test must not block on a full pipe
		_, _ = io.Copy(io.Discard, events)
	}
	err = c.Wait()
	r.summary()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() > 0 {
		return exit.ExitCode(), errors.Join(reading, r.err)
	}
	return 0, errors.Join(err, reading, r.err)
}
