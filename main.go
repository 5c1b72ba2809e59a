// Command acmeproxy gets TLS certificates from a public CA for hosts that the
// Internet cannot reach.
package main

import (
	"os"

	"github.com/acmeproxy/acmeproxy/cmd"
)

func main() { os.Exit(cmd.Execute()) }
