package cmd

import (
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/frontend/admin"
	"github.com/acmeproxy/acmeproxy/pkg/printable"
)

// acmeFlags holds the flags of clients acme.
type acmeFlags struct {
	admin     adminFlags
	program   string // of acmePrograms, or empty
	directory bool
	revoke    string // ID, kid or thumbprint of a credential, or all
	expires   days
	yes       bool
	req       admin.NewACME
}

func newClientsACME() *cobra.Command {
	var f acmeFlags
	c := &cobra.Command{
		Use:   "acme NAME",
		Short: "Print a credential with which an ACME program gets certificates",
		Long: `acme gives a client a credential for programs that speak ACME: certbot, Caddy,
cert-manager, acme.sh, lego, dehydrated, appliances. It prints the URL of the
proxy's directory, and the key identifier and HMAC key of an external account
binding (EAB). They are not shown again. The client needs a grant with the mode
acme, see "acmeproxy help clients add". The program needs no open port and no
access to DNS.

--for prints the program's commands or configuration with these values.

For programs without EAB:
  --directory     print a directory URL that is a secret of its own
  --account-key   allow an account key, by its thumbprint (RFC 7638)

--from restricts the credential to networks. Without it, only the networks of the
grants count. --expires-in makes it expire, and with it the accounts that were
registered with it.

--replace removes the client's other ACME credentials at once: the accounts that
were registered with them cannot be used any more. --revoke removes one
credential, by its ID, kid or thumbprint from "acmeproxy clients show", or all, and
prints no new one. Certificates stay valid. On a terminal, both ask for confirmation.`,
		Example: `  acmeproxy clients acme web1 --for certbot
  acmeproxy clients acme firewall --directory --from 192.0.2.7
  acmeproxy clients acme web1 --revoke all`,
		Args: oneArg("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := f.check(c); err != nil {
				return err
			}
			a, err := f.admin.dial(c)
			if err != nil {
				return err
			}
			if f.revoke != "" {
				return f.remove(c, a, args[0])
			}
			return f.issue(c, a, args[0])
		},
	}
	f.admin.bind(c.Flags())
	fs := c.Flags()
	fs.StringVar(&f.program, "for", "", "`program` whose commands or configuration are printed: "+strings.Join(acmePrograms(), ", "))
	fs.BoolVar(&f.directory, "directory", false, "print a secret directory URL instead of an external account binding")
	fs.StringVar(&f.req.Thumbprint, "account-key", "", "allow the account key with this `thumbprint` instead of an external account binding")
	fs.StringSliceVar(&f.req.Networks, "from", nil, "`networks` from which it may be used, such as 10.1.0.0/16 (default those of the grants)")
	fs.Var(&f.expires, "expires-in", "`time` after which it expires, such as 90d or 12h (default never)")
	fs.BoolVar(&f.req.Replace, "replace", false, "remove the client's other ACME credentials at once")
	fs.StringVar(&f.revoke, "revoke", "", "only remove the credential with this `ID`, kid or thumbprint, or all")
	yesFlag(fs, &f.yes)
	return c
}

// check completes the request.
func (f *acmeFlags) check(c *cobra.Command) error {
	f.req.Kind = clients.ACMEBinding
	switch {
	case f.directory && c.Flags().Changed("account-key"):
		return usage("directory: does not go with --account-key; remove one of them")
	case f.directory:
		f.req.Kind = clients.ACMEDirectory
	case c.Flags().Changed("account-key"):
		f.req.Kind = clients.ACMEKey
	}
	for _, name := range []string{"for", "from", "expires-in", "replace", "directory", "account-key"} {
		if f.revoke != "" && c.Flags().Changed(name) {
			return usage("%s: does not apply to --revoke; remove one of them", name)
		}
	}
	if c.Flags().Changed("revoke") && f.revoke == "" {
		return usage("revoke: empty; use the ID, kid or thumbprint of a credential, or all")
	}
	if f.program != "" && !slices.Contains(acmePrograms(), f.program) {
		return usage("for: %q is unknown; use one of %s", f.program, strings.Join(acmePrograms(), ", "))
	}
	if f.program != "" && f.admin.json {
		return usage("for: does not apply to --json; remove one of them")
	}
	if f.expires.set && f.expires.d == 0 {
		return usage("expires-in: zero; use a time such as 90d, or remove the flag for a credential that does not expire")
	}
	f.req.ExpiresIn = admin.JSONDuration(f.expires.d)
	return nil
}

// issue prints a new credential.
func (f *acmeFlags) issue(c *cobra.Command, a *admin.Admin, name string) error {
	if f.req.Replace {
		if err := confirm(c, f.yes, "remove all other ACME credentials of client %q, and lock out the accounts that were registered with them?", name); err != nil {
			return err
		}
	}
	answer, err := a.NewACME(c.Context(), name, f.req)
	if err != nil {
		return inACMEFlags(err)
	}
	if f.admin.json {
		return printJSON(c.OutOrStdout(), answer)
	}
	for _, w := range answer.Warnings {
		warn(c, w)
	}
	for _, r := range answer.Removed {
		printErrf(c, "removed %s %s\n", r.Kind, describeACME(r))
	}
	printErrf(c, "client %q has the %s credential %s%s", name, answer.Credential.Kind, answer.Credential.ID, until(answer.Credential.ExpiresAt))
	if answer.Credential.Kind == string(clients.ACMEKey) {
		printErrf(c, ":\n")
	} else {
		printErrf(c, "; its secret is not shown again:\n")
	}
	if f.program != "" {
		_, err = io.WriteString(c.OutOrStdout(), acmeRecipe(f.program, answer))
		return err
	}
	printf(c, "directory  %s\n", printable.Exact(answer.Directory))
	if answer.Kid != "" {
		printf(c, "kid        %s\nhmac key   %s\n", printable.Exact(answer.Kid), printable.Exact(answer.HMACKey))
	}
	if answer.Certificate != "" {
		printErrf(c, "the proxy's certificate is still self-signed; until it has one of the CA, programs trust the directory only by this file (see --for):\n")
		_, err = io.WriteString(c.OutOrStdout(), answer.Certificate)
	}
	return err
}

// describeACME returns how people know a credential of the ACME door: the value in their
// program's configuration, if it is no secret, and the ID.
func describeACME(cr admin.Credential) string {
	switch {
	case cr.Kid != "":
		return "kid " + cr.Kid + "  id " + cr.ID
	case cr.Thumbprint != "":
		return "thumbprint " + cr.Thumbprint + "  id " + cr.ID
	}
	return "id " + cr.ID
}

func until(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return " until " + moment(t)
}

// inACMEFlags replaces the names of fields in the proxy's error with the flags that set
// them.
func inACMEFlags(err error) error {
	return renamed(err, map[string]string{"networks": "from", "thumbprint": "account-key", "expires_in": "expires-in", "client": "revoke"})
}

// remove removes credentials.
func (f *acmeFlags) remove(c *cobra.Command, a *admin.Admin, name string) error {
	id, what := f.revoke, "the ACME credential "+f.revoke
	if f.revoke == "all" {
		id, what = "", "all ACME credentials"
	}
	if err := confirm(c, f.yes, "remove %s of client %q, and lock out the accounts that were registered with it?", what, name); err != nil {
		return err
	}
	answer, err := a.RevokeACME(c.Context(), name, id)
	if err != nil {
		return err
	}
	if f.admin.json {
		return printJSON(c.OutOrStdout(), answer)
	}
	for _, r := range answer.Removed {
		printf(c, "removed %s %s\n", r.Kind, describeACME(r))
	}
	if len(answer.Removed) == 0 {
		printf(c, "client %q has no ACME credential\n", name)
	}
	return nil
}
