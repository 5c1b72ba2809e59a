package cmd

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/frontend/admin"
	"github.com/acmeproxy/acmeproxy/pkg/printable"
)

// removed holds the output of remove.
type removed struct {
	admin.Client
	Revoked []admin.Revoked `json:"revoked,omitempty"`
}

func newClientsRemove() *cobra.Command {
	var flags adminFlags
	var revoke, yes bool
	var reason string
	c := &cobra.Command{
		Use:   "remove NAME",
		Short: "Remove a client with its credentials, certificates and bundles",
		Long: `remove deletes a client with its credentials, its managed certificates and their
bundles. Its entries in the audit trail stay. Its certificates are not revoked,
unless you use --revoke. To lock a client out for a while, use disable.

--revoke first disables the client, then revokes the current certificates that
the proxy manages for it in agent mode, and all that its ACME programs got and
that have not expired. Programs that check revocation refuse the services that
still use them. If one cannot be revoked, the client stays and is disabled. The
proxy does not know certificates of the gateway. Revoke those on their host with
"acmeproxy remote revoke", before you remove the client.

On a terminal, remove asks for confirmation.`,
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
				return usage("reason: applies to revocations only; use it with --revoke")
			}
			a, err := flags.dial(c)
			if err != nil {
				return err
			}
			if err := confirmRemoval(c, yes, revoke, args[0]); err != nil {
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
	c.Flags().BoolVar(&revoke, "revoke", false, "first revoke the certificates that the proxy manages for it, and those of its ACME programs")
	reasonFlag(c.Flags(), &reason)
	yesFlag(c.Flags(), &yes)
	return c
}

func confirmRemoval(c *cobra.Command, yes, revoke bool, name string) error {
	if revoke {
		return confirm(c, yes, "revoke the certificates of client %q, then remove it with its credentials, certificates and bundles?", name)
	}
	return confirm(c, yes, "remove client %q with its credentials, certificates and bundles?", name)
}

// revokeClient revokes a client's certificates and returns them. The error lists
// both revoked and failed ones.
func revokeClient(c *cobra.Command, a *admin.Admin, name string, reason cert.Reason) ([]admin.Revoked, error) {
	var revoked, failed []admin.Revoked
	err := a.RevokeClient(c.Context(), name, string(reason), func(r admin.Revoked) {
		switch {
		case r.Error != "":
			failed = append(failed, r)
		case r.Serial != "": // otherwise no certificate was obtained yet
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
		return nil, err // perhaps the client does not exist
	}
	if err != nil {
		printable.Fprintf(&lines, "%v\n", err)
	}
	return nil, fmt.Errorf("%sclient %q is disabled, not removed; fix the cause and run the command again, or run it without --revoke to leave the certificates valid", &lines, name)
}
