package cmd

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/frontend/admin"
)

func newCertsRenew() *cobra.Command {
	var flags adminFlags
	var wait time.Duration
	c := &cobra.Command{
		Use:   "renew ID|NAME",
		Short: "Renew a certificate now, at any age, or retry a failed one",
		Long: `renew makes the proxy order a new certificate with a new key at once. If the
client has the key, it is certified again. A delay after a failure ends, unless
the CA asked for it. The number of such attempts is limited for each name set.

renew waits for the result, and for a certificate of the proxy's own host also
for its files and hook. The host of a client fetches the new certificate itself:
a running "acmeproxy remote run" at its next poll.`,
		Example: `  acmeproxy certs renew www.example.com
  acmeproxy certs renew k3xq5c7v2n4m6p2r4t6w8y2a4c --wait 0`,
		SuggestFor: []string{"retry", "try"},
		Args:       oneArg("ID or name"),
		RunE: func(c *cobra.Command, args []string) error {
			a, before, err := flags.details(c, args[0])
			if err != nil {
				return err
			}
			if _, err := a.RenewCertificate(c.Context(), before.ID); err != nil {
				return err
			}
			return flags.finish(c, a, before.Certificate, wait)
		},
	}
	flags.bind(c.Flags())
	waitFlag(c.Flags(), &wait)
	return c
}

func waitFlag(fs *pflag.FlagSet, wait *time.Duration) {
	fs.DurationVar(wait, "wait", 5*time.Minute, "maximum `time` to wait for the result; 0 to return at once")
}

// finish waits for the certificate that replaces before, and prints it.
func (f *adminFlags) finish(c *cobra.Command, a *admin.Admin, before admin.Certificate, wait time.Duration) error {
	if wait <= 0 {
		return f.printRequested(c, a, before.ID)
	}
	printErrf(c, "%s: waiting for the proxy to obtain it\n", list(before.Names, " "))
	now, err := await(c, a, before.ID, wait, func(m admin.Certificate) (bool, error) { return obtained(before, m) })
	if err != nil {
		return err
	}
	if now.Client == "" {
		if now, err = await(c, a, before.ID, wait, deployed); err != nil {
			return err
		}
	}
	if f.json {
		return printJSON(c.OutOrStdout(), now)
	}
	_, err = printf(c, "certificate %s is renewed: serial %s, expires %s\n", now.ID, now.Serial, moment(now.NotAfter))
	return err
}

func (f *adminFlags) printRequested(c *cobra.Command, a *admin.Admin, id string) error {
	now, err := a.Certificate(c.Context(), id)
	if err != nil {
		return err
	}
	if f.json {
		return printJSON(c.OutOrStdout(), now)
	}
	_, err = printf(c, "certificate %s: next attempt %s; acmeproxy certs show %s shows the result\n", id, describeNext(now.Certificate, time.Now()), id)
	return err
}

// obtained reports whether an attempt that began after before has succeeded. If it has
// failed, obtained returns the cause.
func obtained(before, now admin.Certificate) (bool, error) {
	switch {
	case now.Serial != before.Serial:
		return true, nil
	case !now.LastErrorAt.Equal(before.LastErrorAt) && !now.LastErrorAt.IsZero() && !now.Attempting:
		return false, fmt.Errorf("certificate %s was not obtained: %s; next attempt %s", now.ID, now.LastError, moment(now.NextAttempt))
	}
	return false, nil
}

// deployed reports whether the files and the hook of a certificate are done.
func deployed(now admin.Certificate) (bool, error) {
	if now.Deployment == nil {
		return true, nil
	}
	if now.HookError != "" && now.Deployment.RunBy == "" {
		return false, fmt.Errorf("certificate %s is stored, but its deployment in %s failed: %s; next attempt %s",
			now.ID, now.Folder, now.HookError, moment(now.Deployment.NextAttempt))
	}
	return false, nil
}

// pollEvery is the interval of questions over the admin socket.
const pollEvery = 500 * time.Millisecond

// await asks for a certificate until done returns true or an error.
func await(c *cobra.Command, a *admin.Admin, id string, wait time.Duration, done func(admin.Certificate) (bool, error)) (m admin.CertificateDetails, err error) {
	end := time.After(wait)
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		if m, err = a.Certificate(c.Context(), id); err != nil {
			return m, err
		}
		if finished, err := done(m.Certificate); finished || err != nil {
			return m, err
		}
		select {
		case <-tick.C:
		case <-end:
			return m, &acme.Error{Kind: acme.Temporary, Detail: fmt.Sprintf("certificate %s: no result after %v; acmeproxy certs show %s shows it later", id, wait, id)}
		case <-c.Context().Done():
			return m, c.Context().Err()
		}
	}
}

func newCertsHook() *cobra.Command {
	var flags adminFlags
	var wait time.Duration
	c := &cobra.Command{
		Use:   "hook ID|NAME",
		Short: "Write the files of this host's certificate and run its hook now",
		Long: `hook writes the files of a certificate of the proxy's own host, if they are not
as they should be, and runs the certificate-obtained hook. It does so even if the
hook has succeeded before, and does not wait for the next attempt of one that
failed. Nothing is ordered.`,
		Example:    `  acmeproxy certs hook www.example.com`,
		SuggestFor: []string{"deploy", "run-hook"},
		Args:       oneArg("ID or name"),
		RunE: func(c *cobra.Command, args []string) error {
			a, id, err := flags.certificate(c, args[0])
			if err != nil {
				return err
			}
			if _, err := a.DeployCertificate(c.Context(), id); err != nil {
				return err
			}
			if wait <= 0 {
				return flags.printRequested(c, a, id)
			}
			now, err := await(c, a, id, wait, deployed)
			if err != nil {
				return err
			}
			if flags.json {
				return printJSON(c.OutOrStdout(), now)
			}
			_, err = printf(c, "certificate %s is deployed in %s\n", id, now.Folder)
			return err
		},
	}
	flags.bind(c.Flags())
	waitFlag(c.Flags(), &wait)
	return c
}

func newCertsRevoke() *cobra.Command {
	var flags adminFlags
	var req admin.RevokeCertificate
	var wait time.Duration
	var yes bool
	c := &cobra.Command{
		Use:   "revoke ID|NAME",
		Short: "Revoke a certificate at its CA and obtain another",
		Long: `revoke asks the CA that issued a certificate to revoke it, for a client or for
the proxy's own host. Then the proxy obtains another one with a new key, at most
twice an hour for the same names. If the client has the key and the reason is
keyCompromise, the client must first send the CSR of another key.

From then on, programs that check revocation refuse the services that still use
the revoked certificate. The host of a client gets the new one as after a renewal.

serve stores the request before it asks the CA. If serve is killed, or the CA does
not answer, it asks again until the CA has answered. An entry in the audit trail
shows each attempt.

With --forget, the proxy stops managing the certificate instead of replacing it.
This does not apply to the names that serve is configured to have.

On a terminal, revoke asks for confirmation.`,
		Example: `  acmeproxy certs revoke www.example.com --reason keyCompromise
  acmeproxy certs revoke k3xq5c7v2n4m6p2r4t6w8y2a4c --forget --yes`,
		Args: oneArg("ID or name"),
		RunE: func(c *cobra.Command, args []string) error {
			why, err := parseReason(req.Reason)
			if err != nil {
				return err
			}
			req.Reason = string(why)
			a, before, err := flags.details(c, args[0])
			if err != nil {
				return err
			}
			if err := confirmRevocation(c, yes, before, req.Forget); err != nil {
				return err
			}
			now, err := a.RevokeCertificate(c.Context(), before.ID, req)
			if err != nil && !errors.As(err, new(*api.Problem)) {
				err = fmt.Errorf("whether the certificate is revoked is not known; if serve has received the request, it finishes it, also after a restart: %w", err)
			}
			if err != nil {
				return err
			}
			return flags.revoked(c, a, before.Certificate, now, req.Forget, wait)
		},
	}
	flags.bind(c.Flags())
	reasonFlag(c.Flags(), &req.Reason)
	c.Flags().BoolVar(&req.Forget, "forget", false, "stop managing the certificate instead of replacing it")
	waitFlag(c.Flags(), &wait)
	yesFlag(c.Flags(), &yes)
	return c
}

func confirmRevocation(c *cobra.Command, yes bool, m admin.CertificateDetails, forget bool) error {
	owner := "this host"
	if m.Client != "" {
		owner = "client " + m.Client
	}
	later := ""
	if m.ReplaceableAt.After(time.Now()) && !forget {
		later = fmt.Sprintf(" These names were requested several times within a short time: no other certificate is ordered before %s.", moment(m.ReplaceableAt))
	}
	return confirm(c, yes, "revoke the certificate of %s for %s, serial %s?%s", owner, list(m.Names, " "), m.Serial, later)
}

// revoked reports a revocation and waits for the certificate that replaces it.
func (f *adminFlags) revoked(c *cobra.Command, a *admin.Admin, before, now admin.Certificate, forgotten bool, wait time.Duration) error {
	if forgotten && f.json {
		return printJSON(c.OutOrStdout(), now)
	}
	if !f.json {
		printf(c, "revoked %s  %s\n", before.Serial, strings.Join(before.Names, " "))
	}
	switch {
	case forgotten:
		_, err := printf(c, "certificate %s is forgotten\n", before.ID)
		return err
	case now.NextAttempt.IsZero():
		return &acme.Error{Kind: acme.Temporary, Detail: fmt.Sprintf("certificate %s IS revoked, but not replaced: its client must ask with the CSR of another key", before.ID)}
	case now.NextAttempt.After(time.Now().Add(time.Minute)) && wait > 0:
		return &acme.Error{Kind: acme.Temporary, Detail: fmt.Sprintf("certificate %s IS revoked, but these names were requested several times within a short time; the proxy obtains another at %s", before.ID, moment(now.NextAttempt))}
	}
	return f.finish(c, a, before, wait)
}
