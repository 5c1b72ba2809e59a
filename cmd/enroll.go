package cmd

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/acmeproxy/acmeproxy/pkg/auth"
	"github.com/acmeproxy/acmeproxy/pkg/localfile"
	"github.com/acmeproxy/acmeproxy/pkg/printable"
	"github.com/acmeproxy/acmeproxy/pkg/remote"
)

// enrolled holds the output of enroll.
type enrolled struct {
	Client string `json:"client"`
	Proxy  string `json:"proxy"`
}

func newEnroll() *cobra.Command {
	var flags remoteFlags
	var opts remote.EnrollOptions
	var asJSON bool
	c := &cobra.Command{
		Use:   "enroll TOKEN",
		Short: "Become a client of the proxy with a one-time token",
		Long: `enroll creates this host's TLS key and age identity and registers them at the
proxy. Run "acmeproxy clients add" on the proxy's host to get the token. It works
once, expires, and pins the proxy's key, so that no other server can answer for
the proxy. Use - for TOKEN to read it from standard input, where no other user of
this host can see it.`,
		Example: `  acmeproxy remote enroll apx1-…
  ssh proxy acmeproxy clients add web1 --allow web1.example.com | acmeproxy remote enroll -
  acmeproxy remote enroll apx1-… --identity /etc/ssh/ssh_host_ed25519_key`,
		Args: oneArg("TOKEN"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := flags.load(c); err != nil {
				return err
			}
			text, err := tokenText(c, args[0])
			if err != nil {
				return err
			}
			token, err := auth.ParseEnrollToken(text)
			if err != nil {
				return usageError{err}
			}
			if opts.Identity != "" {
				if opts.Identity, err = filepath.Abs(opts.Identity); err != nil {
					return err
				}
			}
			if risk := localfile.Risk(flags.stateDir); risk != "" {
				warn(c, "state-dir: "+risk)
			}
			opts.Busy = func(again time.Duration) {
				printable.Fprintf(c.ErrOrStderr(), "the proxy is busy, retrying in %v\n", again)
			}
			opts.Environment = environment()
			s, err := remote.Enroll(c.Context(), flags.stateDir, userAgent(), token, opts)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(c.OutOrStdout(), enrolled{Client: s.Client(), Proxy: s.URL()})
			}
			_, err = printf(c, "enrolled as %q at %s; its key is pinned\n", s.Client(), s.URL())
			return err
		},
	}
	flags.bind(c.Flags())
	c.Flags().StringVar(&opts.Identity, "identity", "", "open bundles with this key `file` instead of a new one: an age identity, or an SSH private key with its .pub beside it")
	c.Flags().StringArrayVar(&opts.Recipients, "recipient", nil, "another age or SSH public `key` that can open this host's bundles; may be repeated")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// tokenText returns the token from the command line, where other users can see it,
// or from standard input. It also accepts the whole line that "clients add" printed.
func tokenText(c *cobra.Command, arg string) (string, error) {
	if arg != "-" {
		return arg, nil
	}
	text, err := io.ReadAll(io.LimitReader(c.InOrStdin(), 64<<10))
	if err != nil {
		return "", fmt.Errorf("read the token from standard input: %w", err)
	}
	for _, word := range strings.Fields(string(text)) {
		if strings.HasPrefix(word, "apx1-") {
			return word, nil
		}
	}
	return "", usage("no enrolment token on standard input; use the one that begins with apx1-")
}
