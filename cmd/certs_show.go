package cmd

import (
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/acmeproxy/acmeproxy/pkg/frontend/admin"
)

func newCertsShow() *cobra.Command {
	var flags adminFlags
	c := &cobra.Command{
		Use:   "show ID|NAME",
		Short: "Show a certificate: its CA, its renewals, what fails and why",
		Long: `show prints everything that the proxy has stored about one certificate, except
the sealed certificate itself: its owner and CA, when it was and will be renewed,
the last failure, and for a certificate of the proxy's own host its folder and
the state of the hook.`,
		Example: `  acmeproxy certs show www.example.com
  acmeproxy certs show k3xq5c7v2n4m6p2r4t6w8y2a4c --json`,
		Args: oneArg("ID or name"),
		RunE: func(c *cobra.Command, args []string) error {
			_, d, err := flags.details(c, args[0])
			if err != nil {
				return err
			}
			if flags.json {
				return printJSON(c.OutOrStdout(), d)
			}
			return printDetails(c, d, time.Now())
		},
	}
	flags.bind(c.Flags())
	return c
}

func printDetails(c *cobra.Command, d admin.CertificateDetails, now time.Time) error {
	line := func(label, format string, args ...any) {
		printf(c, "%-12s "+format+"\n", append([]any{label}, args...)...)
	}
	line("certificate", "%s", d.ID)
	line("names", "%s", strings.Join(d.Names, " "))
	if d.Client == "" {
		line("owner", "this host")
		line("name", "%s", d.Name)
		line("folder", "%s", d.Folder)
	} else {
		line("owner", "client %s", d.Client)
	}
	line("mode", "%s", d.Mode)
	line("added", "%s", moment(d.CreatedAt))
	if d.KeyType == "" {
		line("key", "with the client, which sent a CSR")
	} else {
		line("key", "%s", d.KeyType)
	}
	if d.Profile != "" {
		line("profile", "%s", d.Profile)
	}
	if d.Serial == "" {
		line("serial", "none; the certificate was not obtained yet")
	} else {
		line("serial", "%s", d.Serial)
		line("issued", "%s", moment(d.NotBefore))
		line("expires", "%s (%s)", moment(d.NotAfter), strings.TrimPrefix(expiry(d.Certificate, now), d.NotAfter.UTC().Format(time.DateOnly)+" "))
		line("CA", "%s", orUnknown(d.CA))
	}
	if !d.RenewFrom.IsZero() {
		line("CA suggests", "a renewal from %s to %s; asked again at %s", moment(d.RenewFrom), moment(d.RenewUntil), moment(d.RenewalInfoAt))
	}
	line("next attempt", "%s", describeNext(d.Certificate, now))
	if d.LastError != "" {
		line("last failure", "%s (%s, failures of the proxy's own attempts since the last success: %s)", d.LastError, moment(d.LastErrorAt), strconv.Itoa(d.Failures))
	}
	if d.Client == "" {
		line("deployment", "%s", describeDeployment(d.Certificate))
	}
	if text := describeProblem(d.Certificate); text != "" {
		line("problem", "%s", text)
	}
	return nil
}

func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}

// describeNext returns when the proxy asks the CA next, and why not before.
func describeNext(m admin.Certificate, now time.Time) string {
	next := nextAttempt(m, now)
	switch {
	case next == "":
		return "never"
	case !m.NextAttempt.After(now) || m.Attempting:
		return next
	}
	next = moment(m.NextAttempt) + " (" + next + ")"
	if m.WaitUntil.After(now) {
		next += "; the CA asks to wait until " + moment(m.WaitUntil)
	}
	return next
}

// describeDeployment returns the state of the files and the hook.
func describeDeployment(m admin.Certificate) string {
	d := m.Deployment
	switch {
	case d == nil && m.Serial == "":
		return "none yet"
	case d == nil:
		return "done"
	}
	text := "pending"
	if m.HookError != "" {
		text = "failed: " + m.HookError
	}
	if d.RunBy != "" {
		return text + "; running at " + d.RunBy
	}
	return text + "; next attempt " + moment(d.NextAttempt)
}
