package cmd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/frontend/admin"
	"github.com/acmeproxy/acmeproxy/pkg/preflight"
)

// checkFlags are what check may be told.
type checkFlags struct {
	adminFlags
	resolvers []string
	httpPort  int
}

func newCheck() *cobra.Command {
	var flags checkFlags
	c := &cobra.Command{
		Use:   "check NAME…",
		Short: "See whether a CA could validate names, before one is asked",
		Long: `check looks at names as a CA does, without asking the CA anything about them:

  dns    which addresses the name has
  http   does port 80 of each address lead to this proxy? It fetches a random
         token that the proxy answers for a moment
  caa    do CAA records let the CA issue, to this account and by this challenge?

Port 80 is looked at where the proxy itself answers HTTP-01: not for wildcards,
nor with another --challenge, --http-01-webroot or --http-01-hook.

Each verdict is ok, warning, fails or not checked, with what to do in one line.

check looks from this host, not from the Internet: a firewall or a router in
front of this host may still let nobody in, and DNS may answer others
differently.

It works on the proxy's own host, while the proxy runs. Exit code 0: nothing
fails, 1: something does.`,
		Example: `  acmeproxy check web1.example.com www.example.com
  acmeproxy check web1.example.com --resolver 9.9.9.9:53 --json`,
		Args: someArgs("NAME"),
		RunE: func(c *cobra.Command, args []string) error { return flags.run(c, args) },
	}
	flags.bind(c.Flags())
	c.Flags().StringSliceVar(&flags.resolvers, "resolver", nil, "`address` of a DNS resolver to ask, HOST:PORT (default those of /etc/resolv.conf); may be repeated")
	c.Flags().IntVar(&flags.httpPort, "http-port", 80, "port to look at; CAs look at 80 only")
	if err := c.Flags().MarkHidden("http-port"); err != nil { // it is there for tests
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
		return err // without a proxy nothing can lead to it
	}
	checker, err := preflight.New(preflight.Config{
		Publish: publisher(a), CA: authority(a), Challenge: status.Challenge, Elsewhere: elsewhere(status), DNS01: status.DNS01,
		Resolvers: resolvers, HTTPPort: f.httpPort, UserAgent: "acmeproxy-check/" + programVersion(),
	})
	if err != nil {
		return err
	}
	report := checker.Run(c.Context(), names)
	if err := c.Context().Err(); err != nil {
		return err
	}
	if f.json {
		err = printJSON(c.OutOrStdout(), report)
	} else {
		err = printReport(c, report)
	}
	if failing := report.Failing(); err == nil && len(failing) > 0 {
		err = fmt.Errorf("a CA could not validate %s", strings.Join(failing, ", "))
	}
	return err
}

// parseNames keeps the order, and names every fault.
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
		r, err := preflight.ParseResolver(s)
		if err != nil {
			faults = append(faults, usage("resolver: %w", err))
		}
		out = append(out, r)
	}
	return out, errors.Join(faults...)
}

// publisher puts probes into the running proxy.
func publisher(a *admin.Admin) func(context.Context, string) (preflight.Probe, error) {
	return func(ctx context.Context, host string) (preflight.Probe, error) {
		p, err := a.AddProbe(ctx, admin.NewProbe{Name: host})
		if err != nil {
			return preflight.Probe{}, err
		}
		return preflight.Probe{Token: p.Token, Body: p.Body, Remove: func() {
			// If that fails, the proxy forgets it by itself.
			_ = a.RemoveProbe(context.WithoutCancel(ctx), p.Token)
		}}, nil
	}
}

// elsewhere says why the proxy does not answer HTTP-01 itself.
func elsewhere(s admin.Status) string {
	switch s.HTTP01 {
	case admin.HTTP01Webroot:
		return "the web server of --http-01-webroot answers there"
	case admin.HTTP01Hook:
		return "what --http-01-hook tells answers there"
	case admin.HTTP01Nobody:
		return "--http-addr is none"
	}
	return ""
}

func authority(a *admin.Admin) func(context.Context) (preflight.Authority, error) {
	return func(ctx context.Context) (preflight.Authority, error) {
		ca, err := a.CA(ctx)
		return preflight.Authority{Identities: ca.CAAIdentities, AccountURL: ca.AccountURL}, err
	}
}

func printReport(c *cobra.Command, report preflight.Report) error {
	for i, r := range report.Names {
		if i > 0 {
			printf(c, "\n")
		}
		printf(c, "%s: %s\n", r.Name, r.Verdict)
		for _, check := range r.Checks {
			printCheck(c, check)
		}
	}
	_, err := printf(c, "\n%s\n", report.Viewpoint)
	return err
}

func printCheck(c *cobra.Command, check preflight.Check) {
	detail := check.Detail
	if check.Address.IsValid() {
		detail = "port 80 of " + check.Address.String() + ": " + detail
	}
	printf(c, "  %-4s  %-11s  %s\n", check.Check, check.Verdict, detail)
	if check.Remedy != "" {
		printf(c, "  %19s%s\n", "→ ", check.Remedy)
	}
}
