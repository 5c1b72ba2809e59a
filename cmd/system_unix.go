//go:build unix

package cmd

import "github.com/spf13/cobra"

// refuseUnsupported does nothing, because all commands work on this system.
func refuseUnsupported(*cobra.Command) {}
