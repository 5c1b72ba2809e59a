package cmd

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/remote"
)

func newRenew() *cobra.Command {
	var flags remoteFlags
	var asJSON bool
	c := &cobra.Command{
		Use:   "renew [NAME…]",
		Short: "Try all failing certificates now, or renew those of these names",
		Long: `renew without a name makes every certificate of this host that fails or is due try
now, after you removed the cause. It also runs hooks that failed. Good certificates
stay as they are.

With names, renew requests a new key and certificate for each of them now, as
"acmeproxy remote get NAME --renew" does. A certificate that fails is tried again
instead. If the proxy has a newer one already, renew installs that and requests none.

A delay that the CA or the proxy asked for stays. While a certificate fails, four
attempts an hour can be requested. After that, the message says when the next one
is possible.

The exit code is 1 if one of several certificates fails.`,
		Example: `  acmeproxy remote renew
  acmeproxy remote renew web1.example.com`,
		Args: notBlank,
		RunE: func(c *cobra.Command, args []string) error {
			s, err := flags.open(c)
			if err != nil {
				return err
			}
			if err := checkNames(args); err != nil {
				return err
			}
			all, err := s.Matching(splitCommas(args))
			if unknown := (*remote.UnknownNameError)(nil); errors.As(err, &unknown) {
				if e, _ := flags.pendingEntry(s, remote.Wanted{Names: cert.Names{unknown.Name}}, unknown.Name); e != nil {
					return fmt.Errorf("%w; %s", err, e.pendingProblem())
				}
				return fmt.Errorf("%w; run acmeproxy remote list to see all", err)
			}
			if err != nil {
				return err
			}
			r := renewing{Command: c, state: s, renew: len(args) > 0}
			for _, k := range all {
				if err := r.one(k); err != nil {
					return err
				}
			}
			return r.report(asJSON)
		},
	}
	flags.bind(c.Flags())
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// checkNames refuses arguments that are neither a stored name nor a name of a
// certificate.
func checkNames(args []string) error {
	for _, name := range splitCommas(args) {
		if _, err := cert.ParseName(name); err != nil && !cert.IsStoredName(name) {
			return usage("names: %w", err)
		}
	}
	return nil
}

// renewing is a call of renew.
type renewing struct {
	*cobra.Command
	state   *remote.State
	renew   bool // good certificates as well
	results []renewed
	errs    []error // of those that failed
}

// renewed is the result for one certificate.
type renewed struct {
	remote.Report
	Changed bool   `json:"changed"`
	Error   string `json:"error,omitempty"`
}

// one tries one certificate. It returns an error if the others cannot be tried either.
func (r *renewing) one(k remote.Kept) error {
	events := len(k.Names) + 5
	if k.Mode.IsUnattended() {
		events = 2
	}
	p := newProgress(r.ErrOrStderr(), k.Names[0], events)
	g, err := r.state.Getter(p.event)
	if err != nil {
		return err
	}
	now, changed, err := g.Retry(r.Context(), k, r.renew)
	p.done()
	if r.Context().Err() != nil {
		return r.Context().Err()
	}
	result := renewed{Report: now.Report(), Changed: changed}
	if err != nil {
		result.Error = err.Error()
		r.errs = append(r.errs, fmt.Errorf("%s: %w", strings.Join(k.Names, " "), err))
	}
	r.results = append(r.results, result)
	return nil
}

// report prints the results. Its error has the exit code of a single certificate's
// failure.
func (r *renewing) report(asJSON bool) error {
	if asJSON {
		if r.results == nil {
			r.results = []renewed{}
		}
		if err := printJSON(r.OutOrStdout(), r.results); err != nil {
			return err
		}
	}
	for _, k := range r.results {
		names := strings.Join(k.Names, " ")
		switch {
		case asJSON || k.Error != "":
		case k.Changed:
			printf(r.Command, "%s: certificate %s, valid until %s\nfiles in %s\n", names, k.Serial, moment(k.NotAfter), k.Out)
		default:
			printf(r.Command, "%s: nothing to do, valid until %s\n", names, moment(k.NotAfter))
		}
	}
	if len(r.results) == 0 && !asJSON {
		printf(r.Command, "this host has no certificates yet; run acmeproxy remote get NAME\n")
	}
	switch {
	case len(r.errs) == 0:
		return nil
	case len(r.results) == 1:
		return r.errs[0]
	}
	for _, err := range r.errs {
		printError(r.ErrOrStderr(), err)
	}
	return fmt.Errorf("%d of %d certificates failed", len(r.errs), len(r.results))
}
