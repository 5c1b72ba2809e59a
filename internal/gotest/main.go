// Command gotest runs go test -json and prints what go test prints without -json,
// and at the end which tests failed and which were skipped, with the reason.
//
//	go run ./internal/gotest [-again] go test -json ./...
//
// Its exit code is that of go test. With -v or -bench among the arguments it prints the
// output of all tests.
//
// With -again it runs up to three failed tests once more, alone, since our tests measure
// waits and ratios on machines that others use, too. Those that pass then are listed as
// unsteady, and the exit code is 0. A panic, a data race or a failed build is final.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
)

func main() {
	// The terminal sends Ctrl-C to the command as well, and we print how it ends.
	signal.Notify(make(chan os.Signal, 1), os.Interrupt)
	command, again := os.Args[1:], false
	if len(command) > 0 && command[0] == "-again" {
		command, again = command[1:], true
	}
	code, err := run(command, again, os.Stdout, os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "gotest:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// run runs the command, and with again its failed tests once more. It returns the exit code.
func run(command []string, again bool, stdout, stderr io.Writer) (int, error) {
	if len(command) == 0 {
		return 2, errors.New("no command; use go test -json with its arguments")
	}
	r := newReport(stdout, isVerbose(command))
	code, err := r.run(command, stderr)
	if failed := r.unsteady(); again && code == 1 && err == nil && len(failed) > 0 {
		code, err = r.runAgain(command, failed, stderr)
	}
	r.summary()
	return code, errors.Join(err, r.err)
}

func isVerbose(command []string) bool {
	return slices.ContainsFunc(command, func(arg string) bool {
		name := "-" + strings.TrimLeft(arg, "-")
		return name == "-v" || name == "-v=true" || strings.HasPrefix(name, "-bench")
	})
}

// run runs a command and reads its events. It returns the exit code.
func (r *report) run(command []string, stderr io.Writer) (int, error) {
	c := exec.CommandContext(context.Background(), command[0], command[1:]...) //nolint:gosec // running its arguments is its purpose
	c.Stdin, c.Stderr = os.Stdin, stderr
	events, err := c.StdoutPipe()
	if err != nil {
		return 1, err
	}
	if err := c.Start(); err != nil {
		return 1, err
	}
	reading := r.read(events)
	if reading != nil { // go test must not block on a full pipe
		_, _ = io.Copy(io.Discard, events)
	}
	err = c.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() > 0 {
		return exit.ExitCode(), reading
	}
	return 0, errors.Join(err, reading)
}

// runAgain runs failed tests alone, package by package, and stores which of them passed.
func (r *report) runAgain(command []string, failed map[string][]string, stderr io.Writer) (int, error) {
	at := slices.Index(command, "test")
	if at < 0 {
		return 1, nil
	}
	for _, pkg := range slices.Sorted(maps.Keys(failed)) {
		once := slices.Clone(command[:at+1])
		for _, arg := range command[at+1:] {
			if strings.HasPrefix(arg, "-") { // not a package
				once = append(once, arg)
			}
		}
		once = append(once, "-count=1", "-run=^("+strings.Join(failed[pkg], "|")+")$", pkg)
		r.print("\nagain, alone: " + pkg + " " + strings.Join(failed[pkg], " ") + "\n")
		alone := newReport(r.w, r.verbose)
		if code, err := alone.run(once, stderr); code != 0 || err != nil {
			return max(code, 1), errors.Join(err, alone.err)
		}
		r.passed[pkg] = true
	}
	return 0, nil
}
