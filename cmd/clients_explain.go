package cmd

import (
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/frontend/admin"
	"github.com/acmeproxy/acmeproxy/pkg/printable"
)

func newClientsExplain() *cobra.Command {
	var flags adminFlags
	var req admin.Explain
	var modes []string
	c := &cobra.Command{
		Use:   "explain NAME NAMES…",
		Short: "Show which grant allows a client a certificate, or why none does",
		Long: `explain decides about a certificate with all NAMES, as the proxy would if the
client requested it now, and shows what each of the client's grants says. Nothing
is requested or counted. For the mode acme, it also shows what the proxy refuses
whatever the grants say: wildcards without DNS-01, and its own names.

Without --mode, it decides for each mode. Without --from, the networks of grants
do not count.`,
		Example: `  acmeproxy clients explain web1 web1.example.com www.example.com
  acmeproxy clients explain web1 web1.example.com --mode acme --from 10.1.2.3`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) < 2 {
				return usage("NAME and NAMES: write the client and at least one name of the certificate")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			a, err := flags.dial(c)
			if err != nil {
				return err
			}
			wanted := clients.AsModes(modes)
			if len(wanted) == 0 {
				wanted = clients.GrantableModes()
			}
			req.Names = args[1:]
			all := make([]admin.Explanation, 0, len(wanted))
			for _, req.Mode = range wanted {
				e, err := a.Explain(c.Context(), args[0], req)
				if err != nil {
					return renamed(err, map[string]string{"names": "NAMES", "key_type": "key-type"})
				}
				all = append(all, e)
			}
			if flags.json {
				return printJSON(c.OutOrStdout(), all)
			}
			for _, e := range all {
				printExplanation(c, e)
			}
			return nil
		},
	}
	flags.bind(c.Flags())
	fs := c.Flags()
	fs.StringSliceVar(&modes, "mode", nil, "`modes` to decide for: agent, gateway, acme, challenge (default each)")
	fs.StringVar(&req.KeyType, "key-type", "ec256", "`type` of the certificate's key")
	fs.StringVar(&req.Profile, "profile", "", "the CA's `profile` that is requested (default none)")
	fs.StringVar(&req.From, "from", "", "`address` of the client (default any)")
	return c
}

// printExplanation prints the decision for one mode.
func printExplanation(c *cobra.Command, e admin.Explanation) {
	switch {
	case !e.Allowed:
		printf(c, "%s: refused: %s\n", e.Mode, e.Reason)
	case e.DailyQuota > 0:
		printf(c, "%s: allowed, %d a day\n", e.Mode, e.DailyQuota)
	default:
		printf(c, "%s: allowed\n", e.Mode)
	}
	for _, reason := range e.Proxy {
		printf(c, "  the proxy: %s\n", reason)
	}
	for i, v := range e.Grants {
		verdict := "covers it"
		if !v.Covers {
			verdict = strings.Join(v.Faults, "; ")
		} else if len(v.Grant.Networks) > 0 {
			verdict = "covers it from " + strings.Join(v.Grant.Networks, ", ")
		}
		printf(c, "  grant %s (%s): %s\n", strconv.Itoa(i+1), printable.Exact(strings.Join(v.Grant.Names, ",")), verdict)
	}
}
