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

// reasonFlag binds the flag with the reason for a revocation.
func reasonFlag(fs *pflag.FlagSet, reason *string) {
	names := make([]string, len(cert.Reasons))
	for i, r := range cert.Reasons {
		names[i] = string(r)
	}
	fs.StringVar(reason, "reason", "", "`reason`, for the CA: "+strings.Join(names, ", ")+"; in any case (default "+names[0]+")")
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
	var forget, yes, asJSON bool
	c := &cobra.Command{
		Use:   "revoke NAME…",
		Short: "Revoke the certificate of these names and replace it, with a new key",
		Long: `revoke asks the CA, through the proxy, to revoke the certificate on this host's
disk. On a terminal, it asks for confirmation first. The certificate's key proves
to the proxy that it belongs to this host. Then revoke gets another certificate
with a new key, and runs the hook.

From then on, programs that check revocation refuse every service that still uses
the revoked certificate: other hosts with a copy, and services on this host until
the hook has made them load the new one.

If the proxy cannot replace it at once, revoke reports this and fails. The files
then still hold the revoked certificate, and "acmeproxy remote run" retries. In
agent mode the proxy obtains a certificate at most once an hour.

With --forget, the proxy and this host stop renewing the certificate, and do not
replace it. The files stay. Remove them when no service uses them. A certificate
of the configuration file is refused then: remove its entry first.`,
		Example: `  acmeproxy remote revoke web1.example.com --reason keyCompromise
  acmeproxy remote revoke old.example.com --reason cessationOfOperation --forget`,
		Args: someArgs("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			why, err := parseReason(reason)
			if err != nil {
				return err
			}
			if mode != "" && !clients.Mode(mode).Canonical().IsNative() {
				return usage("mode: %q is unknown; use agent or gateway", mode)
			}
			s, err := flags.open(c)
			if err != nil {
				return err
			}
			found, err := s.Lookup(splitCommas(args), clients.Mode(mode).Canonical())
			switch {
			case errors.Is(err, fs.ErrNotExist):
				return fmt.Errorf("this host has no certificate for %s; run acmeproxy remote list to see all", strings.Join(splitCommas(args), " "))
			case err != nil:
				return usageError{err}
			}
			if len(found) > 1 {
				return usage("mode: this host has several certificates for %s; use --mode, or the name that acmeproxy remote list shows", found[0].Names)
			}
			k := found[0]
			if forget {
				if err := checkNotListed(s, k, remoteConfigFile(flags.config)); err != nil {
					return err
				}
			}
			if err := confirm(c, yes, "revoke the certificate of %s, %s mode, files in %s?", k.Names, k.Mode, k.Out); err != nil {
				return err
			}
			return revoke(c, s, k, why, forget, asJSON)
		},
	}
	flags.bind(c.Flags())
	c.Flags().StringVar(&mode, "mode", "", "`mode` of the certificate, agent or gateway, if this host has one in each")
	reasonFlag(c.Flags(), &reason)
	c.Flags().BoolVar(&forget, "forget", false, "do not replace it")
	yesFlag(c.Flags(), &yes)
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// otherKeyType returns a key type that differs from t.
func otherKeyType(t cert.KeyType) cert.KeyType {
	if t == cert.EC384 {
		return cert.EC256
	}
	return cert.EC384
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
		now := fmt.Sprintf("acmeproxy remote get %s --mode %s", strings.Join(done.Names, " "), done.Mode)
		if have, _, err := s.Find(remote.Wanted{Names: done.Names, Mode: done.Mode}); err != nil || have == nil || have.Name != k.Name {
			now += " --name " + k.Name
		}
		if errors.Is(failure, remote.ErrReplacedLater) {
			now += " --key-type " + string(otherKeyType(k.KeyType)) // the pause is for one key type
		}
		return fmt.Errorf("%w\n\"acmeproxy remote run\" retries; to retry now, run %s", failure, now)
	case done.Certificate == nil:
		_, err = printf(c, "it is no longer renewed here; its files are still in %s\n", k.Out)
	default:
		n := done.Certificate
		_, err = printf(c, "%s: certificate %s, valid until %s\nfiles in %s\n", n.Names, n.Serial, moment(n.NotAfter), n.Out)
	}
	return err
}

// keptProblem returns why a certificate on this host is not up to date, or an empty
// string.
func keptProblem(k remote.Kept) string {
	var all []string
	if installed := k.Installed(); !installed.Equal(k.Names) {
		all = append(all, "the files are still those of "+list(installed, " "))
	}
	for _, problem := range []string{keptDecision(k), keptFailure(k)} {
		if problem != "" {
			all = append(all, problem)
		}
	}
	return strings.Join(all, "; ")
}

// keptDecision returns why a certificate on this host needs a decision of the
// administrator, with the remedy, or an empty string.
func keptDecision(k remote.Kept) string {
	err := k.Conflict()
	if err == nil {
		err = k.NotListed()
	}
	if err == nil {
		return ""
	}
	return err.Error() + "; " + remoteRemedy(err, "", "")
}

func keptFailure(k remote.Kept) string {
	switch {
	case k.LastError != "" && k.HookDue && !k.NextAttempt.IsZero():
		return k.LastError + "; next attempt " + moment(k.NextAttempt)
	case k.LastError != "":
		return k.LastError
	case k.Forgetting != nil:
		return "the proxy has not confirmed yet that it stopped managing it"
	case k.Revoked != "" && k.Revoked == k.Serial:
		return "revoked; not replaced yet"
	case k.HookDue:
		return "its hook has not succeeded yet"
	}
	return ""
}
