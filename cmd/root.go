// Package cmd implements the command line of acmeproxy. It holds the cobra commands
// and is the only package that reads flags. A command reads its flags into a
// configuration struct, calls a package that does the work, and prints the result.
package cmd

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/acmeproxy/acmeproxy/pkg/printable"
)

// version is set by the linker (make build).
var version = "" // -ldflags -X needs a variable

// errInterrupted replaces "context canceled" in messages.
var errInterrupted = errors.New("interrupted")

// Execute runs the command line and returns the exit code.
func Execute() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// A second signal ends the process at once.
	context.AfterFunc(ctx, stop)
	root := newRoot()
	stdout, stderr := printable.NewWriter(os.Stdout), printable.NewWriter(os.Stderr)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetArgs(withTokens(os.Args[1:]))
	err := root.ExecuteContext(ctx)
	if errors.Is(err, context.Canceled) {
		err = errInterrupted
	}
	printError(stderr, err)
	if lost := errors.Join(stdout.Flush(), stderr.Flush()); err == nil {
		err = lost
	}
	return exitCode(err)
}

// Root returns the root command, for the programs that generate documents.
func Root() *cobra.Command { return newRoot() }

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "acmeproxy",
		Short: "TLS certificates from a public CA for hosts the Internet cannot reach",
		Long: `acmeproxy gets TLS certificates from a public CA for hosts that the Internet
cannot reach. "acmeproxy serve" runs in the DMZ, where the CA's HTTP-01
connection arrives; "acmeproxy remote" runs on internal hosts and opens no port.

The flags of "serve" and "remote" can also be set in the environment, as
ACMEPROXY_ and the flag's name in capitals with _ for -, and those of "serve" and
"remote run" as keys of their configuration files. A flag beats the environment,
which beats the file, which beats the default.

Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 refused by the
proxy, 4 temporary failure: try again later.`,
		Version:       programVersion(),
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          subcommand,

		PersistentPreRun: func(c *cobra.Command, _ []string) {
			switch c.Name() {
			case cobra.ShellCompRequestCmd, cobra.ShellCompNoDescRequestCmd:
				plainUsage(c.Root())
			default:
				checkEnvironment(c)
			}
		},
		RunE: showHelp,
	}
	root.SetVersionTemplate("acmeproxy {{.Version}}\n")
	root.SetFlagErrorFunc(flagError)
	root.AddCommand(newServe(), newReload(), newStatus(), newClients(), newCerts(), newAudit(), newCheck(), newSign(), newStore(), newRemote(), newVersion())
	addCompletions(root)
	refuseUnsupported(root)
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		switch c.Name() {
		case "help":
			c.Args = helpTopic
		case "completion":
			c.Args, c.RunE = subcommand, showHelp
			for _, shell := range c.Commands() {
				shell.Args = noArgs
			}
		}
	}
	return root
}

func showHelp(c *cobra.Command, _ []string) error { return c.Help() }

func newVersion() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			v := versions{programVersion(), runtime.Version(), runtime.GOOS, runtime.GOARCH}
			if asJSON {
				return printJSON(c.OutOrStdout(), v)
			}
			_, err := printf(c, "acmeproxy %s %s %s/%s\n", v.Version, v.Go, v.OS, v.Arch)
			return err
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// versions holds the output of version.
type versions struct {
	Version string `json:"version"`
	Go      string `json:"go"`
	OS      string `json:"os"`
	Arch    string `json:"arch"`
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
