package cmd

import (
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/acmeproxy/acmeproxy/pkg/enroll"
	"github.com/acmeproxy/acmeproxy/pkg/frontend/admin"
	"github.com/acmeproxy/acmeproxy/pkg/printable"
)

// secretFlags holds the flags of add and token that describe the new credential.
type secretFlags struct {
	secret admin.Secret
	life   time.Duration
}

func (f *secretFlags) bind(fs *pflag.FlagSet) {
	fs.BoolVar(&f.secret.Bearer, "bearer", false, "print a bearer token for scripts instead of an enrolment token")
	fs.StringVar(&f.secret.URL, "url", "", "`URL` at which this client reaches the proxy, if not the --hostname of serve: https://HOST:PORT")
	fs.DurationVar(&f.life, "token-life", enroll.DefaultTokenLife, "how long the enrolment token may be used, 1m to 720h")
}

// get returns the secret. It refuses flags that a bearer token would ignore.
func (f *secretFlags) get(fs *pflag.FlagSet) (admin.Secret, error) {
	for _, name := range []string{"token-life", "url"} {
		if f.secret.Bearer && fs.Changed(name) {
			return admin.Secret{}, usage("%s: does not apply to bearer tokens; remove --%[1]s, or remove --bearer for an enrolment token", name)
		}
	}
	f.secret.TokenLife = admin.JSONDuration(f.life)
	return f.secret, nil
}

// printSecret prints only the token to standard output. done says what happened
// to the client.
func printSecret(c *cobra.Command, answer admin.NewClientAnswer, done string) error {
	if answer.BearerToken != "" {
		printErrf(c, "client %q %s; its bearer token, which is not shown again:\n", answer.Client.Name, done)
		_, err := printf(c, "%s\n", printable.Exact(answer.BearerToken))
		return err
	}
	if answer.EnrollToken == "" {
		printErrf(c, "client %q %s; run this for the credential of its ACME program:\n", answer.Client.Name, done)
		_, err := printf(c, "acmeproxy clients acme %s\n", answer.Client.Name)
		return err
	}
	printErrf(c, "client %q %s; run this on its host before %s:\n", answer.Client.Name, done, moment(answer.ExpiresAt))
	_, err := printf(c, "acmeproxy remote enroll %s\n", printable.Exact(answer.EnrollToken))
	return err
}

func newClientsToken() *cobra.Command {
	var flags adminFlags
	var secret secretFlags
	var req admin.NewToken
	var yes bool
	c := &cobra.Command{
		Use:   "token NAME",
		Short: "Print a new token for a client that exists",
		Long: `token creates another enrolment token for a client, or with --bearer another
bearer token. Use it if a token expired unused, or if another host shares the
client. The client's other credentials stay valid.

--replace deletes all other credentials of the client at once (the keys of its
hosts, bearer tokens, unused tokens, ACME credentials) and all recipients of its
bundles. Use it if a host was rebuilt, or if its keys were stolen. The client's
grants, certificates and names stay. The proxy obtains nothing for it until a
host has enrolled, or until --recipient names a key that can open its bundles.
Its certificates are not revoked. On a terminal, --replace asks for confirmation.

To enrol again, a host needs an empty state directory: move the old one away. It
cannot open earlier bundles, and automatically asks the proxy once for new
certificates. If several hosts share a client, enrol all of them before the first
one gets a certificate.`,
		Example: `  acmeproxy clients token web1
  acmeproxy clients token web1 --replace
  acmeproxy clients token script --bearer --replace`,
		Args: oneArg("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			what, err := secret.get(c.Flags())
			if err != nil {
				return err
			}
			a, err := flags.dial(c)
			if err != nil {
				return err
			}
			if req.Replace {
				if err := confirm(c, yes, "delete all other credentials and all recipients of client %q?", args[0]); err != nil {
					return err
				}
			}
			req.Secret = what
			answer, err := a.NewToken(c.Context(), args[0], req)
			if err != nil {
				return inFlags(err)
			}
			if flags.json {
				return printJSON(c.OutOrStdout(), answer)
			}
			done := "has another token"
			if req.Replace {
				done = "has this token only"
			}
			return printSecret(c, answer, done)
		},
	}
	flags.bind(c.Flags())
	fs := c.Flags()
	secret.bind(fs)
	fs.BoolVar(&req.Replace, "replace", false, "delete all other credentials, and all recipients, at once")
	fs.StringArrayVar(&req.Recipients, "recipient", nil, "with --replace: age or SSH public `key` to which its bundles are sealed from now on, in addition to those of hosts that enrol; may be repeated")
	yesFlag(fs, &yes)
	return c
}
