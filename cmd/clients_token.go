package cmd

import (
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/acmeproxy/acmeproxy/pkg/enroll"
	"github.com/acmeproxy/acmeproxy/pkg/frontend/admin"
	"github.com/acmeproxy/acmeproxy/pkg/printable"
)

// secretFlags say what a client proves itself with, for add and token.
type secretFlags struct {
	secret admin.Secret
	life   time.Duration
}

func (f *secretFlags) bind(fs *pflag.FlagSet) {
	fs.BoolVar(&f.secret.Bearer, "bearer", false, "print a bearer token for scripts in place of an enrolment token")
	fs.StringVar(&f.secret.URL, "url", "", "`URL` at which this client reaches the proxy, if not the --hostname of serve: https://HOST:PORT")
	fs.DurationVar(&f.life, "token-life", enroll.DefaultTokenLife, "how long the enrolment token may be used, 1m to 720h")
}

// get refuses flags that a bearer token would ignore.
func (f *secretFlags) get(fs *pflag.FlagSet) (admin.Secret, error) {
	for _, name := range []string{"token-life", "url"} {
		if f.secret.Bearer && fs.Changed(name) {
			return admin.Secret{}, usage("%s: a bearer token has none; leave --%[1]s out, or leave --bearer out for an enrolment token", name)
		}
	}
	f.secret.TokenLife = admin.JSONDuration(f.life)
	return f.secret, nil
}

// printSecret has the token alone on standard output. done says what was done
// to the client.
func printSecret(c *cobra.Command, answer admin.NewClientAnswer, done string) error {
	if answer.BearerToken != "" {
		printErrf(c, "client %q %s; its bearer token, shown this once only:\n", answer.Client.Name, done)
		_, err := printf(c, "%s\n", printable.Exact(answer.BearerToken))
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
	c := &cobra.Command{
		Use:   "token NAME",
		Short: "Print a new token for a client that exists",
		Long: `token gives a client one more enrolment token, or with --bearer one more bearer
token: for a token that expired unused, or for one more host that shares the
client. All that the client has goes on working.

With --replace the client loses at once all that it proved itself with (the keys
of its hosts, bearer tokens, tokens not used yet) and all recipients of its
bundles: for a host that was rebuilt, or whose keys were stolen. Its grants, its
certificates and its names stay. Nothing is obtained for it until a host has
enrolled, or --recipient names somebody who can open its bundles. Certificates
that it has are not revoked.

A host that enrols anew needs an empty state directory: move the old one away.
What was sealed before it cannot open; it asks the proxy for new certificates by
itself, once. Where several hosts share a client, enrol all of them before the
first one gets a certificate.`,
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
			req.Secret = what
			answer, err := a.NewToken(c.Context(), args[0], req)
			if err != nil {
				return inFlags(err)
			}
			if flags.json {
				return printJSON(c.OutOrStdout(), answer)
			}
			done := "has one more token"
			if req.Replace {
				done = "has lost all that it had but this"
			}
			return printSecret(c, answer, done)
		},
	}
	flags.bind(c.Flags())
	fs := c.Flags()
	secret.bind(fs)
	fs.BoolVar(&req.Replace, "replace", false, "take away all other credentials, and all recipients, at once")
	fs.StringArrayVar(&req.Recipients, "recipient", nil, "with --replace: age or SSH public `key` to which its bundles are sealed from now on, besides those of hosts that enrol; may be repeated")
	return c
}
