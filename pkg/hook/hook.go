// Package hook runs an operator's own command when a certificate was obtained or
// renewed: to copy files, reload a server, tell a monitoring system.
//
// The command is told what happened by environment variables alone, in three
// dialects: ACMEPROXY_* (ours), RENEWED_* (certbot's deploy hooks) and LEGO_*
// (lego's hooks), so that scripts people already have run unchanged.
//
// A challenge's command is told where an answer belongs and what it is, in two
// dialects: ours and certbot's (CERTBOT_*, its manual hooks).
//
// It must never hand a private key, a credential or the proxy's own configuration to
// the command: only paths. Inherited variables that the proxy reads itself are
// removed: ACMEPROXY_*, a DNS provider's and a database's secrets (environ.go).
// Nor does it put the command line in an error: people write secrets there.
// Whether a hook is still due, and when it is tried again, is the caller's
// business: a certificate is kept whatever its hook does.
//
//	h := hook.Hook{Command: "systemctl reload nginx", Timeout: time.Minute}
//	err := h.Run(ctx, hook.Event{Names: names, Dir: dir, KeyPath: keyPath})
//	var failed *hook.Error
//	if errors.As(err, &failed) {
//		log.Warn("hook failed", "exit", failed.ExitCode, "output", failed.Output)
//	}
package hook

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// DefaultTimeout is how long a command may run when Hook.Timeout is zero.
	DefaultTimeout = 10 * time.Minute

	// defaultGrace is how long a command that was told to stop may take for it,
	// and how long a finished one's background processes may hold its output.
	defaultGrace = 3 * time.Second
)

// Hook is a command and how long it may take. A Hook may be used by several
// goroutines at once; the commands then run side by side.
type Hook struct {
	Command string        // run by /bin/sh -c; empty: Run does nothing
	Timeout time.Duration // zero: DefaultTimeout

	grace time.Duration // zero: defaultGrace
}

// Error is a command that did not succeed. It wraps the context's error when
// the command was stopped, so errors.Is tells a timeout
// (context.DeadlineExceeded) from a shutdown (context.Canceled).
type Error struct {
	ExitCode int    // -1 when the command did not start or was killed
	Output   string // the last 4 KiB of standard output and error, without control characters
	Err      error
}

func (e *Error) Error() string {
	message := "hook: " + e.Err.Error()
	if e.Output != "" {
		message += ": " + e.Output
	}
	return message
}

func (e *Error) Unwrap() error { return e.Err }

// Run runs the command to its end and returns an *Error unless it exited with
// code 0. When ctx or the timeout ends first, the command and all processes of
// its group get SIGTERM and, a few seconds later, SIGKILL. A command that
// leaves a background process behind and exits 0 has succeeded.
func (h Hook) Run(ctx context.Context, event Event) error {
	return h.run(ctx, event.variables())
}

func (h Hook) run(ctx context.Context, set []variable) error {
	if h.Command == "" {
		return nil
	}
	timeout := h.Timeout
	if timeout == 0 {
		timeout = DefaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()

	var output tail
	cmd := h.command(ctx, set, &output)
	if err := cmd.Start(); err != nil {
		return &Error{ExitCode: -1, Err: fmt.Errorf("start /bin/sh: %w", err)}
	}
	err := cmd.Wait()
	if ctx.Err() != nil {
		// The shell is gone, but what it started may have ignored SIGTERM. The
		// group's id stays taken while it has a member, so no stranger is hit.
		_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
	}
	if err == nil || errors.Is(err, exec.ErrWaitDelay) {
		return nil
	}
	return &Error{
		ExitCode: cmd.ProcessState.ExitCode(),
		Output:   output.String(),
		Err:      failure(ctx, timeout, err),
	}
}

func (h Hook) command(ctx context.Context, set []variable, output *tail) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", h.Command)
	cmd.Env = environ(set)
	cmd.Stdout, cmd.Stderr = output, output // the same writer: one pipe, in order
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGTERM) }
	cmd.WaitDelay = h.grace
	if cmd.WaitDelay == 0 {
		cmd.WaitDelay = defaultGrace
	}
	return cmd
}

// failure says why a command failed, in words for the operator.
func failure(ctx context.Context, timeout time.Duration, err error) error {
	switch ctxErr := ctx.Err(); {
	case errors.Is(ctxErr, context.DeadlineExceeded):
		return fmt.Errorf("stopped after %s: %w", timeout, ctxErr)
	case ctxErr != nil:
		return fmt.Errorf("stopped: %w", ctxErr)
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		return fmt.Errorf("exited with code %d", exit.ExitCode())
	}
	return err
}
