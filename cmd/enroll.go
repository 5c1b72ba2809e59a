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

// enrolled is what enroll shows.
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
		Long: `enroll makes this host's TLS key and age identity and registers them at the
proxy. The token is what "acmeproxy clients add" printed on the proxy's host; it
works once, expires, and pins the proxy's key, so that nobody in between can
answer in its place. Write - for TOKEN to read it from standard input, where no
other user of this host can see it.`,
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
				printable.Fprintf(c.ErrOrStderr(), "the proxy is busy, asking again in %v\n", again)
			}
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
	c.Flags().StringVar(&opts.Identity, "identity", "", "open bundles with this key `file` in place of a new one: an age identity, or an SSH private key with its .pub beside it")
	c.Flags().StringArrayVar(&opts.Recipients, "recipient", nil, "a further age or SSH public `key` that can open this host's bundles; may be repeated")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// tokenText reads the token; on the command line other users could see it. From
// standard input the whole line that "clients add" printed will do.
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
	return "", usage("no enrolment token on standard input; it begins with apx1-")
}
