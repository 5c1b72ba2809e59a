package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/envproxy"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/printable"
	"github.com/acmeproxy/acmeproxy/pkg/proxy"
	"github.com/acmeproxy/acmeproxy/pkg/remote"
)

// Exit codes, as documented in the root command's help.
const (
	exitOK        = 0
	exitFailed    = 1
	exitUsage     = 2
	exitRefused   = 3
	exitTemporary = 4
)

// usageError wraps a mistake of the caller, with exit code 2.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usage(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

func exitCode(err error) int {
	var wrong usageError
	var problem *api.Problem
	var failed *acme.Error
	var settings *proxy.SettingsError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &wrong), errors.Is(err, envproxy.ErrNotProxy), errors.As(err, &settings):
		return exitUsage
	case errors.Is(err, remote.ErrNotEnrolled), errors.Is(err, remote.ErrPin):
		return exitRefused
	case errors.As(err, &problem) && (problem.Status == 401 || problem.Status == 403):
		return exitRefused
	case errors.As(err, new(*managed.NotNow)):
		return exitTemporary
	case errors.As(err, &failed): // takes precedence over a problem that it wraps
		if failed.Kind != acme.Permanent {
			return exitTemporary
		}
	case problem != nil && problem.Status == 422: // an invalid field of the request
		return exitUsage
	case problem != nil && (problem.Status == 429 || problem.Status >= 500), isNetwork(err), errors.Is(err, managed.ErrUnreachable):
		return exitTemporary
	}
	return exitFailed
}

// isNetwork reports whether the proxy could not be reached. The error of a port
// that cannot be opened does not wrap a *net.OpError.
func isNetwork(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) || errors.As(err, new(*envproxy.RefusedError)) || remote.IsUnreachable(err) || errors.Is(err, context.DeadlineExceeded)
}

// printError writes one line for each fault.
func printError(w io.Writer, err error) {
	if err == nil {
		return
	}
	for line := range strings.Lines(err.Error()) {
		if line = strings.TrimSpace(line); line != "" {
			printable.Fprintf(w, "acmeproxy: %s\n", line)
		}
	}
}
