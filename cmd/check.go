package cmd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/dnsquery"
	"github.com/acmeproxy/acmeproxy/pkg/frontend/admin"
	"github.com/acmeproxy/acmeproxy/pkg/preflight"
)

// checkFlags holds the flags of check.
type checkFlags struct {
	adminFlags
	resolvers []string
	httpPort  int
}

func newCheck() *cobra.Command {
	var flags checkFlags
	c := &cobra.Command{
		Use:   "check NAME…",
		Short: "Check whether a CA could validate names, before you request a certificate",
		Long: `check validates names as a CA does, without sending them to the CA:

  dns    which addresses does the name have?
  http   does port 80 of each address lead to this proxy? check fetches
         a random token that the proxy answers for a short time
  caa    do CAA records let the CA issue, to this account and by this
         challenge?

check tests port 80 only if the proxy itself answers HTTP-01: not for wildcards,
and not with another --challenge, --http-01-webroot or --http-01-hook.

Each verdict is ok, warning, fails or not checked, with a remedy in one line.

The checks run from this host, not from the Internet. A firewall or a router in
front of this host may still block connections, and other resolvers may get other
DNS answers.

Run it on the proxy's own host, while the proxy runs. The exit code is 0 if no
check fails, and 1 if one fails.`,
		Example: `  acmeproxy check web1.example.com www.example.com
  acmeproxy check web1.example.com --resolver 9.9.9.9:53 --json`,
		Args: someArgs("NAME"),
		RunE: func(c *cobra.Command, args []string) error { return flags.run(c, args) },
	}
	flags.bind(c.Flags())
	c.Flags().StringSliceVar(&flags.resolvers, "resolver", nil, "`address` of a DNS resolver to ask, HOST:PORT (default those of /etc/resolv.conf); may be repeated")
	c.Flags().IntVar(&flags.httpPort, "http-port", 80, "port to check; CAs use 80 only")
	if err := c.Flags().MarkHidden("http-port"); err != nil { // only tests use it
		panic(err)
	}
	return c
}

func (f *checkFlags) run(c *cobra.Command, args []string) error {
	names, err := parseNames(args)
	resolvers, wrong := parseResolvers(f.resolvers)
	if err := errors.Join(err, wrong); err != nil {
		return err
	}
	a, err := f.dial(c)
	if err != nil {
		return err
	}
	status, err := a.Status(c.Context())
	if err != nil {
		return err // the checks need a running proxy
	}
	checker, err := preflight.New(preflight.Config{
		Publish: publisher(a), CA: authority(a), Challenge: status.Challenge, Elsewhere: elsewhere(status), DNS01: status.DNS01,
		Resolvers: resolvers, ResolverSetting: "--resolver", HTTPPort: f.httpPort, UserAgent: "acmeproxy-check/" + programVersion(),
	})
	if err != nil {
		return err
	}
	report := checker.Run(c.Context(), names).Wire()
	if err := c.Context().Err(); err != nil {
		return err
	}
	return printChecks(c, report, f.json, nil)
}

// printChecks prints a report, and returns an error if a check fails. parties names
// those who must apply a remedy, by api.Check.By, if they are not the caller.
func printChecks(c *cobra.Command, report api.CheckReport, asJSON bool, parties map[string]string) (err error) {
	if asJSON {
		err = printJSON(c.OutOrStdout(), report)
	} else {
		err = printReport(c, report, parties)
	}
	if failing := report.Failing(); err == nil && len(failing) > 0 {
		err = fmt.Errorf("a CA could not validate %s", strings.Join(failing, ", "))
	}
	return err
}

// parseNames returns the names in their order, or every fault.
func parseNames(args []string) (names []string, err error) {
	var faults []error
	for _, arg := range args {
		name, err := cert.ParseName(arg)
		if err != nil {
			faults = append(faults, usage("names: %w", err))
		} else if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if len(names) > cert.MaxNames {
		faults = append(faults, usage("%d names are too many at a time; the limit is %d", len(names), cert.MaxNames))
	}
	return names, errors.Join(faults...)
}

func parseResolvers(in []string) (out []string, err error) {
	var faults []error
	for _, s := range in {
		r, err := dnsquery.ParseServer(s)
		if err != nil {
			faults = append(faults, usage("resolver: %w", err))
		}
		out = append(out, r)
	}
	return out, errors.Join(faults...)
}

// publisher returns a function that adds probes to the running proxy.
func publisher(a *admin.Admin) func(context.Context, string) (preflight.Probe, error) {
	return func(ctx context.Context, host string) (preflight.Probe, error) {
		p, err := a.AddProbe(ctx, admin.NewProbe{Name: host})
		if err != nil {
			return preflight.Probe{}, err
		}
		return preflight.Probe{Token: p.Token, Body: p.Body, Remove: func() {
			// If this fails, the proxy still removes it after a while.
			_ = a.RemoveProbe(context.WithoutCancel(ctx), p.Token)
		}}, nil
	}
}

// elsewhere returns why the proxy does not answer HTTP-01 itself, or an empty
// string.
func elsewhere(s admin.Status) string {
	switch s.HTTP01 {
	case admin.HTTP01Webroot:
		return "the web server of --http-01-webroot answers there"
	case admin.HTTP01Hook:
		return "the server that --http-01-hook updates answers there"
	case admin.HTTP01Disabled:
		return "--http-addr is set to none"
	}
	return ""
}

func authority(a *admin.Admin) func(context.Context) (preflight.Authority, error) {
	return func(ctx context.Context) (preflight.Authority, error) {
		ca, err := a.CA(ctx)
		return preflight.Authority{Identities: ca.CAAIdentities, AccountURL: ca.AccountURL}, err
	}
}

func printReport(c *cobra.Command, report api.CheckReport, parties map[string]string) error {
	for i, r := range report.Names {
		if i > 0 {
			printf(c, "\n")
		}
		printf(c, "%s: %s\n", r.Name, r.Verdict)
		for _, check := range r.Checks {
			printCheck(c, check, parties[check.By])
		}
	}
	_, err := printf(c, "\n%s\n", report.Viewpoint)
	return err
}

func printCheck(c *cobra.Command, check api.Check, party string) {
	detail := check.Detail
	if check.Address != "" {
		detail = "port 80 of " + check.Address + ": " + detail
	}
	printf(c, "  %-4s  %-11s  %s\n", check.Check, check.Verdict, detail)
	if check.Remedy != "" {
		remedy := check.Remedy
		if party != "" {
			remedy = party + ": " + remedy
		}
		printf(c, "  %19s%s\n", "→ ", remedy)
	}
}
