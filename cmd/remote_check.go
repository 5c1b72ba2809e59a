package cmd

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/printable"
	"github.com/acmeproxy/acmeproxy/pkg/remote"
)

func newRemoteCheck() *cobra.Command {
	var flags remoteFlags
	var asJSON bool
	c := &cobra.Command{
		Use:   "check NAME…",
		Short: "Ask the proxy whether a CA could validate names",
		Long: `check asks the proxy to validate names as a CA does, without asking the CA. It
prints the verdicts of "acmeproxy check" on the proxy's host. Each remedy names who
must act: the name's administrator, who manages its DNS, or the proxy's administrator.

The proxy checks only names that are granted to this host, at most 16 at a time. It
connects only to public addresses and to its own.

The exit code is 0 if no check fails, and 1 if one fails.`,
		Example: `  acmeproxy remote check web1.example.com
  acmeproxy remote check web1.example.com www.example.com --json`,
		Args: someArgs("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			names, err := parseNames(splitCommas(args))
			if err != nil {
				return err
			}
			s, err := flags.open(c)
			if err != nil {
				return err
			}
			report, err := askChecks(c, s, names)
			if err != nil {
				return err
			}
			return printChecks(c, report, asJSON, map[string]string{
				api.ByNameOwner:  "the name's administrator",
				api.ByProxyAdmin: "the proxy's administrator",
			})
		},
	}
	flags.bind(c.Flags())
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// askChecks asks the proxy. A check can take a minute.
func askChecks(c *cobra.Command, s *remote.State, names []string) (api.CheckReport, error) {
	client, err := s.API()
	if err != nil {
		return api.CheckReport{}, err
	}
	if f := printable.File(c.ErrOrStderr()); f != nil && term.IsTerminal(int(f.Fd())) {
		printErrf(c, "the proxy is checking; this can take a minute\n")
	}
	report, err := client.Check(c.Context(), names)
	return report, olderProxy(err, names)
}

// olderProxy replaces the error of a proxy that has no checks.
func olderProxy(err error, names []string) error {
	var p *api.Problem
	if errors.As(err, &p) && (p.Status == http.StatusNotFound || p.Status == http.StatusMethodNotAllowed) {
		return fmt.Errorf("the proxy is older than this program and does not check names for hosts; ask its administrator to run acmeproxy check %s there",
			strings.Join(names, " "))
	}
	return err
}
