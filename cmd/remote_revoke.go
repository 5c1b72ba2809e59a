package cmd

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/remote"
)

// reasonFlag is why a certificate is revoked.
func reasonFlag(fs *pflag.FlagSet, reason *string) {
	names := make([]string, len(cert.Reasons))
	for i, r := range cert.Reasons {
		names[i] = string(r)
	}
	fs.StringVar(reason, "reason", "", "`why`, for the CA: "+strings.Join(names, ", ")+"; in any case (default "+names[0]+")")
}

func parseReason(s string) (cert.Reason, error) {
	r, err := cert.ParseReason(s)
	if err != nil {
		return "", usage("reason: %w", err)
	}
	return r, nil
}

func newRevoke() *cobra.Command {
	var flags remoteFlags
	var mode, reason string
	var forget, asJSON bool
	c := &cobra.Command{
		Use:   "revoke NAME…",
		Short: "Revoke the certificate of these names and get another with a new key",
		Long: `revoke asks the CA, through the proxy, to revoke the certificate that is on this
host's disk, and asks no question first. Then it brings another one with a new
key, and runs the hook. Its key proves to the proxy that it is this host's.

From the moment it is revoked, programs that check revocation refuse every
service that still uses it: other hosts with a copy, and services here until
the hook has made them load the new one.

If no other can be had at once, revoke says so and fails; the files are still
those of the revoked certificate then, and "acmeproxy remote run" goes on trying.
In agent mode the proxy obtains a certificate at most once an hour.

--forget gets no other one: the proxy and this host stop keeping it fresh. The
files stay, remove them when no service uses them.`,
		Example: `  acmeproxy remote revoke web1.example.com --reason keyCompromise
  acmeproxy remote revoke old.example.com --reason cessationOfOperation --forget`,
		Args: someArgs("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			why, err := parseReason(reason)
			if err != nil {
				return err
			}
			if mode != "" && !clients.Mode(mode).IsGrantable() {
				return usage("mode: %q is none; write agent or gateway", mode)
			}
			names, err := cert.ParseNames(splitCommas(args)...)
			if err != nil {
				return usage("names: %w", err)
			}
			s, err := flags.open(c)
			if err != nil {
				return err
			}
			k, err := s.KeptAs(names, clients.Mode(mode))
			if errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("nothing is kept for %s; acmeproxy remote list shows what is", names)
			}
			if err != nil {
				return err
			}
			return revoke(c, s, k, why, forget, asJSON)
		},
	}
	flags.bind(c.Flags())
	c.Flags().StringVar(&mode, "mode", "", "`mode` in which it is kept, agent or gateway, if it is in both")
	reasonFlag(c.Flags(), &reason)
	c.Flags().BoolVar(&forget, "forget", false, "get no other one in its place")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func revoke(c *cobra.Command, s *remote.State, k *remote.Kept, reason cert.Reason, forget, asJSON bool) error {
	events := 2
	if !k.Mode.IsUnattended() {
		events = len(k.Names) + 5 // see acme.Stage
	}
	p := newProgress(c.ErrOrStderr(), k.Names[0], events)
	g, err := s.Getter(p.event)
	if err != nil {
		return err
	}
	done, failure := g.Revoke(c.Context(), k, reason, forget)
	p.done()
	if done == nil {
		return failure
	}
	if asJSON {
		return errors.Join(printJSON(c.OutOrStdout(), done.Report()), failure)
	}
	printf(c, "%s: certificate %s is revoked (%s)\n", done.Names, done.Serial, done.Reason)
	switch {
	case failure != nil:
		return fmt.Errorf("%w\n\"acmeproxy remote run\" goes on trying; by hand: acmeproxy remote get %s --mode %s", failure, strings.Join(done.Names, " "), done.Mode)
	case done.Certificate == nil:
		_, err = printf(c, "it is no longer kept fresh here; its files are still in %s\n", k.Out)
	default:
		n := done.Certificate
		_, err = printf(c, "%s: certificate %s, valid until %s\nfiles in %s\n", n.Names, n.Serial, moment(n.NotAfter), n.Out)
	}
	return err
}

// keptTrouble is what is wrong with what this host keeps.
func keptTrouble(k remote.Kept) string {
	switch {
	case k.LastError != "":
		return k.LastError
	case k.Revoked != "" && k.Revoked == k.Serial:
		return "revoked; there is no other one yet"
	case k.HookDue:
		return "its hook has not succeeded yet"
	}
	return ""
}
