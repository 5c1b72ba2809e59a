package cmd

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"
)

// refuseUnsupported makes the commands of a proxy refuse to work on Windows, and say where they work.
func refuseUnsupported(root *cobra.Command) {
	ofProxy := []string{"serve", "reload", "status", "clients", "certs", "audit", "check", "store"}
	for _, c := range root.Commands() {
		if !slices.Contains(ofProxy, c.Name()) {
			continue
		}
		c.RemoveCommand(c.Commands()...)
		c.Short += " (not on Windows)"
		c.DisableFlagParsing = true // else an unknown flag would be reported first
		c.Args = cobra.ArbitraryArgs
		c.RunE = func(c *cobra.Command, _ []string) error {
			return usageError{fmt.Errorf("%s works on the proxy's host, which cannot be a Windows host; run it there, and use acmeproxy remote on this host", c.CommandPath())}
		}
	}
}
