// Package cmd is the command line of acmeproxy: the cobra tree and the only
// code that knows flags. A command reads its flags into a configuration struct,
// calls a package that does the work, and prints what came of it.
package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/config"
	"github.com/acmeproxy/acmeproxy/pkg/issuer"
	"github.com/acmeproxy/acmeproxy/pkg/remote"
)

// version is set by the linker (make build).
var version = "" //nolint:gochecknoglobals // -ldflags -X needs a variable

// Exit codes, as documented in the root command's help.
const (
	exitOK        = 0
	exitFailed    = 1
	exitUsage     = 2
	exitRefused   = 3
	exitTemporary = 4
)

// Execute runs the command line and returns the exit code.
func Execute() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// A second signal ends the process at once.
	context.AfterFunc(ctx, stop)
	root := newRoot()
	err := root.ExecuteContext(ctx)
	printError(root.ErrOrStderr(), err)
	return exitCode(err)
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "acmeproxy",
		Short: "TLS certificates from a public CA for hosts the Internet cannot reach",
		Long: `acmeproxy gets TLS certificates from a public CA for hosts that the Internet
cannot reach. "acmeproxy serve" runs in the DMZ, where the CA's HTTP-01
connection arrives; "acmeproxy remote" runs inside and only dials out.

Each flag can also be set in the environment, as ACMEPROXY_ and its name in
capitals with _ for -, and as a key of the configuration file. A flag beats the
environment, which beats the file, which beats the default.

Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 refused by the
proxy, 4 failed for now: try again later.`,
		Version:       programVersion(),
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
	}
	root.SetVersionTemplate("acmeproxy {{.Version}}\n")
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usage("%w; see %s --help", err, c.CommandPath())
	})
	root.AddCommand(newServe(), newStatus(), newClients(), newAudit(), newRemote(), newVersion())
	return root
}

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(c.OutOrStdout(), "acmeproxy %s %s %s/%s\n", programVersion(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}

func programVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return strings.TrimPrefix(info.Main.Version, "v")
	}
	return "devel"
}

// usageError is the caller's mistake: exit code 2.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usage(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

func exitCode(err error) int {
	var wrong usageError
	var problem *api.Problem
	var failed *issuer.Error
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &wrong), strings.HasPrefix(err.Error(), "unknown command"):
		return exitUsage
	case errors.Is(err, remote.ErrNotEnrolled), errors.Is(err, remote.ErrPin):
		return exitRefused
	case errors.As(err, &problem):
		switch {
		case problem.Status == 401 || problem.Status == 403:
			return exitRefused
		case problem.Status == 429 || problem.Status >= 500:
			return exitTemporary
		}
	case errors.As(err, &failed) && failed.Kind != issuer.Permanent:
		return exitTemporary
	}
	return exitFailed
}

// printError writes one line for each fault.
func printError(w io.Writer, err error) {
	if err == nil {
		return
	}
	for line := range strings.Lines(err.Error()) {
		if line = strings.TrimSpace(line); line != "" {
			fmt.Fprintf(w, "acmeproxy: %s\n", line)
		}
	}
}

// noArgs is cobra.NoArgs with exit code 2 and a remedy.
func noArgs(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usage("%s takes no argument, but got %q; see %s --help", c.CommandPath(), args[0], c.CommandPath())
	}
	return nil
}

// oneArg wants exactly the argument that what describes.
func oneArg(what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) != 1 {
			return usage("%s wants exactly one %s; see %s --help", c.CommandPath(), what, c.CommandPath())
		}
		return nil
	}
}

// someArgs wants at least one.
func someArgs(what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return usage("%s wants at least one %s; see %s --help", c.CommandPath(), what, c.CommandPath())
		}
		return nil
	}
}

// load fills the flags that were not given from the environment and the file.
func load(c *cobra.Command, file string, opts ...config.Option) error {
	if err := config.Load(c.Flags(), file, opts...); err != nil {
		return usageError{err}
	}
	return nil
}
