// Package hook runs the administrator's own command when a certificate was obtained
// or renewed. The command can copy files, reload a server or notify a monitoring
// system.
//
// The command receives its input only in environment variables, in three dialects:
// ACMEPROXY_* (ours), RENEWED_* (certbot's deploy hooks) and LEGO_* (lego's hooks).
// So existing scripts run unchanged.
//
// A challenge's command receives the place and the content of an answer, in two
// dialects: ours and certbot's (CERTBOT_*, its manual hooks).
//
// It must never pass a private key, a credential or the proxy's own configuration
// to the command, only paths. It removes inherited variables that the proxy reads
// itself: ACMEPROXY_*, a DNS provider's and a database's secrets (environ.go).
// Errors do not contain the command line, because users write secrets there. The
// caller tracks whether a hook is due and when it is retried. A certificate is
// stored whether or not its hook succeeds.
//
//	h := hook.Hook{Command: "systemctl reload nginx", Environ: os.Environ(), Timeout: time.Minute}
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
	"time"
)

const (
	// DefaultTimeout is the timeout of a command when Hook.Timeout is zero.
	DefaultTimeout = 10 * time.Minute

	// defaultGrace is how long a command may take to stop after SIGTERM. It is also
	// how long background processes of a finished command may hold its output.
	defaultGrace = 3 * time.Second
)

// Hook holds a command and its timeout. Several goroutines may use a Hook at once;
// the commands then run concurrently.
type Hook struct {
	Command string        // run by /bin/sh -c, on Windows by cmd.exe /C; if empty, Run does nothing
	Environ []string      // variables to inherit, as NAME=value
	Timeout time.Duration // if zero, DefaultTimeout

	grace time.Duration // if zero, defaultGrace
}

// Error reports that a command did not succeed. It wraps the context's error when
// the command was stopped. So errors.Is distinguishes a timeout
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

// Run runs the command until it exits and returns an *Error unless its exit code
// was 0. When ctx or the timeout ends first, the command's process group gets
// SIGTERM and, a few seconds later, SIGKILL. On Windows, its processes are ended. A command that leaves a background
// process behind and exits 0 has succeeded.
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
	kill, err := start(cmd)
	if err != nil {
		return &Error{ExitCode: -1, Err: fmt.Errorf("start %s: %w", shell, err)}
	}
	err = cmd.Wait()
	kill(ctx.Err() != nil)
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
	cmd := shellCommand(ctx, h.Command)
	cmd.Env = environ(h.Environ, set)
	cmd.Stdout, cmd.Stderr = output, output // the same writer: one pipe, in order
	cmd.WaitDelay = h.grace
	if cmd.WaitDelay == 0 {
		cmd.WaitDelay = defaultGrace
	}
	return cmd
}

// failure returns the cause of a failed command, worded for the administrator.
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
