package cmd

import (
	"cmp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/acmeproxy/acmeproxy/pkg/frontend/admin"
)

func newCerts() *cobra.Command {
	c := &cobra.Command{
		Use:   "certs",
		Short: "Show managed certificates, and release their names",
		Args:  subcommand,
		RunE:  showHelp,
	}
	c.AddCommand(newCertsList(), newCertsForget())
	return c
}

func newCertsList() *cobra.Command {
	var flags adminFlags
	var client string
	c := &cobra.Command{
		Use:   "list",
		Short: "List the certificates that the proxy renews, for clients and for its own host",
		Long: `list shows the managed certificates of all clients and of the proxy's own host,
or those of one client. The proxy does not record certificates of the gateway. A
certificate whose name passed to another client is shown as superseded.`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			a, err := flags.dial(c)
			if err != nil {
				return err
			}
			all, err := a.Certificates(c.Context(), client)
			if err != nil {
				return err
			}
			slices.SortStableFunc(all, func(a, b admin.Certificate) int {
				return cmp.Or(cmp.Compare(a.Client, b.Client), slices.Compare(a.Names, b.Names))
			})
			if flags.json {
				return printJSON(c.OutOrStdout(), admin.CertificateList{Certificates: all})
			}
			t := newTable(c.OutOrStdout(), "ID", "CLIENT", "NAMES", "EXPIRES", "NEXT ATTEMPT", "PROBLEM")
			for _, m := range all {
				t.row(m.ID, m.Client, list(m.Names, " "), moment(m.NotAfter), moment(m.NextAttempt), describeProblem(m))
			}
			return t.flush()
		},
	}
	flags.bind(c.Flags())
	c.Flags().StringVar(&client, "client", "", "only the certificates of the client with this `name`")
	return c
}

func newCertsForget() *cobra.Command {
	var flags adminFlags
	c := &cobra.Command{
		Use:   "forget ID",
		Short: "Stop renewing a certificate and release its names",
		Long: `forget deletes a managed certificate and its bundle. Another client that is
granted the names can then request them at once. Nothing is revoked. If the
present client requests the names first, it gets them again. To prevent this,
first remove its grant with "acmeproxy clients apply", or disable the client.

A name also passes to another client without this command: if the present client
is disabled or no longer granted the name, and a client with a grant requests it.`,
		Example: `  acmeproxy certs list --client web1
  acmeproxy certs forget k3xq5c7v2n4m6p2r4t6w8y2a4c`,
		Args: oneArg("ID"),
		RunE: func(c *cobra.Command, args []string) error {
			a, err := flags.dial(c)
			if err != nil {
				return err
			}
			gone, err := a.ForgetCertificate(c.Context(), args[0])
			if err != nil {
				return err
			}
			if flags.json {
				return printJSON(c.OutOrStdout(), gone)
			}
			_, err = printf(c, "certificate %s is forgotten: %s\n", gone.ID, strings.Join(gone.Names, " "))
			return err
		},
	}
	flags.bind(c.Flags())
	return c
}
