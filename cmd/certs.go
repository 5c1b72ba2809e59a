package cmd

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/acmeproxy/acmeproxy/pkg/frontend/admin"
)

func newCerts() *cobra.Command {
	c := &cobra.Command{
		Use:   "certs",
		Short: "Show, renew and revoke managed certificates, and release their names",
		Long: `certs works on the certificates that a running proxy renews, for clients and for
its own host. It does not know certificates of the gateway.

Where a command takes an ID, it also takes a name of the certificate, or all of
its names joined by commas, if only one certificate has them.`,
		Args: subcommand,
		RunE: showHelp,
	}
	c.AddCommand(newCertsList(), newCertsShow(), newCertsRenew(), newCertsRevoke(), newCertsHook(), newCertsForget())
	return c
}

func newCertsList() *cobra.Command {
	var flags adminFlags
	var q admin.CertificateQuery
	var limit int
	var within days
	c := &cobra.Command{
		Use:   "list",
		Short: "List the certificates that the proxy renews, for clients and for its own host",
		Long: `list shows the managed certificates of all clients and of the proxy's own host,
or the selected ones. Those without a certificate yet come first, then those that
expire soonest. PROBLEM is why a certificate is not renewed or not deployed.

The proxy does not record certificates of the gateway. A certificate whose name
passed to another client is shown as superseded.`,
		Example: `  acmeproxy certs list --failing
  acmeproxy certs list --expires-within 14d --client web1
  acmeproxy certs list --name www.example.com --json`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if limit < 0 {
				return usage("limit: %d is negative; use a number, or 0 for all", limit)
			}
			if err := notBlankFlags(c, "client", "name"); err != nil {
				return err
			}
			if within.set {
				q.ExpiresBefore = time.Now().Add(within.d)
			}
			q.Name = canonicalName(q.Name)
			a, err := flags.dial(c)
			if err != nil {
				return err
			}
			all, err := a.Certificates(c.Context(), q)
			if err != nil {
				return err
			}
			slices.SortStableFunc(all, byUrgency)
			if limit > 0 && len(all) > limit {
				defer printErrf(c, "%d more; leave --limit out to see all\n", len(all)-limit)
				all = all[:limit]
			}
			if flags.json {
				return printJSON(c.OutOrStdout(), admin.CertificateList{Certificates: all})
			}
			return printCertificates(c, all)
		},
	}
	flags.bind(c.Flags())
	c.Flags().StringVar(&q.Client, "client", "", "only the certificates of the client with this `name`; - for the proxy's own host")
	c.Flags().StringVar(&q.Name, "name", "", "only certificates with this `name`")
	c.Flags().BoolVar(&q.Failing, "failing", false, "only certificates whose last attempt or deployment failed, or which are revoked and not replaced yet")
	c.Flags().Var(&within, "expires-within", "only certificates that expire within this `time`, such as 14d or 12h, or have expired")
	c.Flags().IntVar(&limit, "limit", 0, "show only this `number` of certificates (default all)")
	return c
}

// byUrgency sorts certificates: those without a certificate, then by their end. Superseded
// ones come last.
func byUrgency(a, b admin.Certificate) int {
	last := func(c admin.Certificate) int {
		if c.SupersededAt.IsZero() {
			return 0
		}
		return 1
	}
	return cmp.Or(cmp.Compare(last(a), last(b)), a.NotAfter.Compare(b.NotAfter),
		cmp.Compare(a.Client, b.Client), slices.Compare(a.Names, b.Names))
}

func printCertificates(c *cobra.Command, all []admin.Certificate) error {
	now := time.Now()
	t := newTable(c.OutOrStdout(), "ID", "CLIENT", "NAMES", "EXPIRES", "NEXT ATTEMPT", "PROBLEM")
	for _, m := range all {
		t.row(m.ID, m.Client, fewNames(m.Names), expiry(m, now), nextAttempt(m, now), describeProblem(m))
	}
	return t.flush()
}

// fewNames returns the first of the names, and the number of the others. show prints
// all of them.
func fewNames(names []string) string {
	const columns = 32
	first := shorten(names[0], 2*columns)
	for i, name := range names[1:] {
		if len(first)+1+len(name) > columns {
			return fmt.Sprintf("%s +%d", first, len(names)-1-i)
		}
		first += " " + name
	}
	return first
}

// expiry returns the last day of a certificate, and how far away it is.
func expiry(m admin.Certificate, now time.Time) string {
	if m.NotAfter.IsZero() {
		return ""
	}
	left := "expired"
	if m.NotAfter.After(now) {
		left = inWords(m.NotAfter.Sub(now))
	}
	return m.NotAfter.UTC().Format(time.DateOnly) + " " + left
}

// nextAttempt returns when the proxy asks the CA next.
func nextAttempt(m admin.Certificate, now time.Time) string {
	switch {
	case m.Attempting:
		return "running"
	case m.NextAttempt.IsZero():
		return ""
	case !m.NextAttempt.After(now):
		return "now"
	}
	return "in " + inWords(m.NextAttempt.Sub(now))
}

func newCertsForget() *cobra.Command {
	var flags adminFlags
	c := &cobra.Command{
		Use:   "forget ID|NAME",
		Short: "Stop renewing a certificate and release its names",
		Long: `forget deletes a managed certificate and its bundle. Another client that is
granted the names can then request them at once. Nothing is revoked. If the
present client requests the names first, it gets them again. To prevent this,
first remove its grant with "acmeproxy clients apply", or disable the client.

A name also passes to another client without this command: if the present client
is disabled or no longer granted the name, and a client with a grant requests it.

A certificate of the proxy's own host can be forgotten when its names are no
longer configured. Its files stay.`,
		Example: `  acmeproxy certs list --client web1
  acmeproxy certs forget k3xq5c7v2n4m6p2r4t6w8y2a4c
  acmeproxy certs forget old.example.com`,
		SuggestFor: []string{"delete", "remove", "rm"},
		Args:       oneArg("ID or name"),
		RunE: func(c *cobra.Command, args []string) error {
			a, id, err := flags.certificate(c, args[0])
			if err != nil {
				return err
			}
			gone, err := a.ForgetCertificate(c.Context(), id)
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
