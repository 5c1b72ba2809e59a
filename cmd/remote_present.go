package cmd

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/challenge"
	"github.com/acmeproxy/acmeproxy/pkg/remote"
)

// presented holds the output of present and withdraw.
type presented struct {
	Name  string     `json:"name"`
	Token string     `json:"token"`
	Until *time.Time `json:"until,omitempty"` // only of present
}

func newPresent() *cobra.Command {
	var flags remoteFlags
	var name string
	var asJSON bool
	c := &cobra.Command{
		Use:   "present TOKEN KEYAUTH",
		Short: "Let the proxy answer an HTTP-01 challenge of another ACME program",
		Long: `present is for an ACME program on this host that has a CA account of its own, such
as certbot. Its hook passes the challenge's token and key authorization on, and the
proxy answers the CA on port 80, for this name only. When present returns, all
instances of the proxy answer.

The answer ends when "acmeproxy remote withdraw" is run, and after an hour at the
latest. A second run begins another hour. The name must be granted to this host in
the mode challenge.

Use - for KEYAUTH to read it from standard input. Neither it nor the token is
secret: the CA fetches both over plain HTTP.`,
		Example: `  acmeproxy remote present "$CERTBOT_TOKEN" "$CERTBOT_VALIDATION" --name "$CERTBOT_DOMAIN"
  printf %s "$KEYAUTH" | acmeproxy remote present "$TOKEN" - --name web1.example.com`,
		Args: tokenArgs("TOKEN", "KEYAUTH"),
		RunE: func(c *cobra.Command, args []string) error {
			canonical, err := challengeOf(name, args[0])
			if err != nil {
				return err
			}
			text, err := keyAuthorization(c, args[1])
			if err != nil {
				return err
			}
			if err := challenge.CheckKeyAuthorization(args[0], text); err != nil {
				return usage("KEYAUTH: %w", err)
			}
			client, err := flags.client(c)
			if err != nil {
				return err
			}
			a, err := client.Present(c.Context(), canonical, args[0], text)
			switch {
			case err != nil:
				return withoutChallenges(err)
			case a.Name != canonical:
				return fmt.Errorf("the proxy answers for %s, not for %s; ask its administrator", a.Name, canonical)
			case asJSON:
				return printJSON(c.OutOrStdout(), presented{canonical, args[0], &a.Until})
			}
			_, err = printf(c, "%s: the proxy answers the challenge until %s\n", canonical, moment(a.Until))
			return err
		},
	}
	flags.bind(c.Flags())
	bindChallenge(c, &name, &asJSON)
	return c
}

func newWithdraw() *cobra.Command {
	var flags remoteFlags
	var name string
	var asJSON bool
	c := &cobra.Command{
		Use:   "withdraw TOKEN",
		Short: "End an answer of remote present",
		Long: `withdraw ends the answer to a challenge that "acmeproxy remote present" began, when
the CA has validated the name. Without such an answer, it changes nothing and succeeds.`,
		Example: `  acmeproxy remote withdraw "$CERTBOT_TOKEN" --name "$CERTBOT_DOMAIN"`,
		Args:    tokenArgs("TOKEN"),
		RunE: func(c *cobra.Command, args []string) error {
			canonical, err := challengeOf(name, args[0])
			if err != nil {
				return err
			}
			client, err := flags.client(c)
			if err != nil {
				return err
			}
			if err := client.Withdraw(c.Context(), canonical, args[0]); err != nil {
				return withoutChallenges(err)
			}
			if asJSON {
				return printJSON(c.OutOrStdout(), presented{Name: canonical, Token: args[0]})
			}
			_, err = printf(c, "%s: the proxy does not answer the challenge any more\n", canonical)
			return err
		},
	}
	flags.bind(c.Flags())
	bindChallenge(c, &name, &asJSON)
	return c
}

func bindChallenge(c *cobra.Command, name *string, asJSON *bool) {
	c.ValidArgsFunction = cobra.NoFileCompletions
	c.Flags().StringVar(name, "name", "", "the `name` of the challenge: a DNS name or an IP address")
	c.Flags().BoolVar(asJSON, "json", false, "print JSON")
}

// tokenArgs requires one argument for each description.
func tokenArgs(what ...string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) != len(what) {
			return usage("%s needs %s, but got %d arguments; see %s --help", c.CommandPath(), strings.Join(what, " and "), len(args), c.CommandPath())
		}
		return notBlank(c, args)
	}
}

// challengeOf checks a challenge and returns its canonical name.
func challengeOf(name, token string) (string, error) {
	if name == "" {
		return "", usage("name: missing; use --name with the name of the challenge")
	}
	canonical, err := cert.ParseName(name)
	if err == nil {
		err = challenge.CheckName(canonical)
	}
	if err != nil {
		return "", usage("name: %w", err)
	}
	if err := challenge.CheckToken(token); err != nil {
		return "", usage("TOKEN: %w", err)
	}
	return canonical, nil
}

// keyAuthorization returns the argument, or the first line of standard input for "-".
func keyAuthorization(c *cobra.Command, arg string) (string, error) {
	if arg != "-" {
		return arg, nil
	}
	text, err := io.ReadAll(io.LimitReader(c.InOrStdin(), api.MaxPresent))
	if err != nil {
		return "", fmt.Errorf("read the key authorization from standard input: %w", err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return strings.TrimSuffix(line, "\r"), nil
}

// client returns a client of the proxy.
func (f *remoteFlags) client(c *cobra.Command) (*remote.Client, error) {
	s, err := f.open(c)
	if err != nil {
		return nil, err
	}
	return s.API()
}

// withoutChallenges replaces the error of a proxy that answers no challenges of clients.
func withoutChallenges(err error) error {
	var p *api.Problem
	if errors.As(err, &p) && (p.Status == http.StatusNotFound || p.Status == http.StatusMethodNotAllowed) {
		return errors.New("the proxy is older than this program and answers no challenges of other ACME programs; ask its administrator to update it")
	}
	return err
}

// withTokens returns arguments in which no token looks like flags. One of 64 tokens of a CA
// begins with a hyphen. It moves the arguments of present and withdraw that are no flags
// behind "--".
func withTokens(args []string) []string {
	if len(args) < 3 || args[0] != "remote" || args[1] != "present" && args[1] != "withdraw" {
		return args
	}
	flags := newPresent().Flags()
	moved, others := slices.Clone(args[:2]), []string{"--"}
	for i := 2; i < len(args); i++ {
		arg := args[i]
		switch {
		case arg == "--":
			others = append(others, args[i+1:]...)
			return append(moved, others...)
		case !strings.HasPrefix(arg, "-") || arg == "-" || isTokenText(arg):
			others = append(others, arg)
		default:
			moved = append(moved, arg)
			f := flags.Lookup(strings.TrimPrefix(arg, "--"))
			if f != nil && f.NoOptDefVal == "" && i+1 < len(args) { // the next one is its value
				i++
				moved = append(moved, args[i])
			}
		}
	}
	return append(moved, others...)
}

// isTokenText reports whether an argument has the form and the length of a token or a key
// authorization, which no flag has.
func isTokenText(arg string) bool {
	token, thumbprint, _ := strings.Cut(arg, ".")
	return challenge.CheckToken(token) == nil && (thumbprint == "" || challenge.IsToken(thumbprint))
}
