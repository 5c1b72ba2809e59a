package cmd

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/frontend/admin"
	"github.com/acmeproxy/acmeproxy/pkg/printable"
)

// removed is what remove shows.
type removed struct {
	admin.Client
	Revoked []admin.Revoked `json:"revoked,omitempty"`
}

func newClientsRemove() *cobra.Command {
	var flags adminFlags
	var revoke bool
	var reason string
	c := &cobra.Command{
		Use:   "remove NAME",
		Short: "Remove a client with its credentials, certificates and bundles",
		Long: `remove forgets a client: its credentials, its managed certificates and their
bundles. Its entries in the audit trail stay. Certificates that it has are not
revoked, unless you say so. To lock it out for a while only, use disable.

--revoke first locks the client out, then revokes the current certificates that
the proxy keeps for it in agent mode: programs that check revocation refuse the
services that use them. If one cannot be revoked the client stays, disabled. Of
what went through the gateway the proxy knows nothing: revoke that where it is,
with "acmeproxy remote revoke", before the client is removed.`,
		Example: `  acmeproxy clients remove web1
  acmeproxy clients remove web1 --revoke --reason keyCompromise`,
		SuggestFor: []string{"rm", "del", "delete", "revoke"},
		Args:       oneArg("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			why, err := parseReason(reason)
			if err != nil {
				return err
			}
			if reason != "" && !revoke {
				return usage("reason: it is of a revocation; add --revoke")
			}
			a, err := flags.dial(c)
			if err != nil {
				return err
			}
			var out removed
			if revoke {
				if out.Revoked, err = revokeClient(c, a, args[0], why); err != nil {
					return err
				}
			}
			if out.Client, err = a.RemoveClient(c.Context(), args[0]); err != nil {
				return err
			}
			if flags.json {
				return printJSON(c.OutOrStdout(), out)
			}
			for _, r := range out.Revoked {
				printf(c, "revoked %s  %s\n", r.Serial, strings.Join(r.Names, " "))
			}
			_, err = printf(c, "client %q is removed\n", out.Name)
			return err
		},
	}
	flags.bind(c.Flags())
	c.Flags().BoolVar(&revoke, "revoke", false, "first revoke the certificates that the proxy keeps for it")
	reasonFlag(c.Flags(), &reason)
	return c
}

// revokeClient returns what is revoked now, or else tells what is and what is not.
func revokeClient(c *cobra.Command, a *admin.Admin, name string, reason cert.Reason) ([]admin.Revoked, error) {
	var revoked, failed []admin.Revoked
	err := a.RevokeClient(c.Context(), name, string(reason), func(r admin.Revoked) {
		switch {
		case r.Error != "":
			failed = append(failed, r)
		case r.Serial != "": // else none was obtained yet
			revoked = append(revoked, r)
		}
	})
	if err == nil && len(failed) == 0 {
		return revoked, nil
	}
	var lines strings.Builder
	for _, r := range revoked {
		printable.Fprintf(&lines, "revoked %s  %s\n", r.Serial, strings.Join(r.Names, " "))
	}
	for _, r := range failed {
		printable.Fprintf(&lines, "NOT revoked %s  %s: %s\n", r.Serial, strings.Join(r.Names, " "), r.Error)
	}
	if err != nil && len(revoked)+len(failed) == 0 {
		return nil, err // perhaps there is no such client
	}
	if err != nil {
		printable.Fprintf(&lines, "%v\n", err)
	}
	return nil, fmt.Errorf("%sclient %q is disabled, not removed: repeat the command when the cause is mended; without --revoke it removes the client and leaves its certificates valid", &lines, name)
}
