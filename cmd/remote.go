package cmd

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/auth"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/config"
	"github.com/acmeproxy/acmeproxy/pkg/remote"
)

func newRemote() *cobra.Command {
	c := &cobra.Command{
		Use:   "remote",
		Short: "Get certificates through a proxy, from inside",
		Long: `remote runs on the hosts behind the firewall. It dials out to the proxy, through
HTTPS_PROXY if that is set, and listens to nothing.`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newEnroll(), newGet(), newRun(), newRemoteList(), newRemoteStatus(), newForget())
	return c
}

// remoteFlags are those of all remote commands.
type remoteFlags struct{ stateDir string }

func (f *remoteFlags) bind(fs *pflag.FlagSet) {
	f.stateDir = defaultStateDir()
	fs.StringVar(&f.stateDir, "state-dir", f.stateDir, "where this host's keys and state are kept")
}

// defaultStateDir is beside the proxy's data directory, so that one host may
// be both.
func defaultStateDir() string {
	return filepath.Join(filepath.Dir(config.DefaultDataDir()), "acmeproxy-remote")
}

func userAgent() string { return "acmeproxy-remote/" + programVersion() }

func (f *remoteFlags) open(c *cobra.Command) (*remote.State, error) {
	if err := load(c, ""); err != nil {
		return nil, err
	}
	return remote.Open(f.stateDir, userAgent())
}

func newEnroll() *cobra.Command {
	var flags remoteFlags
	var opts remote.EnrollOptions
	c := &cobra.Command{
		Use:   "enroll TOKEN",
		Short: "Become a client of the proxy with a one-time token",
		Long: `enroll makes this host's TLS key and age identity and registers them at the
proxy. The token is what "acmeproxy clients add" printed on the proxy's host; it
works once, expires, and pins the proxy's key, so that nobody in between can
answer in its place. Write - for TOKEN to read it from standard input.`,
		Example: `  acmeproxy remote enroll apx1-…
  acmeproxy remote enroll apx1-… --identity /etc/ssh/ssh_host_ed25519_key`,
		Args: oneArg("TOKEN"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := load(c, ""); err != nil {
				return err
			}
			text, err := tokenText(c, args[0])
			if err != nil {
				return err
			}
			token, err := auth.ParseEnrollToken(text)
			if err != nil {
				return usage("token: %w", err)
			}
			if opts.Identity != "" {
				if opts.Identity, err = filepath.Abs(opts.Identity); err != nil {
					return err
				}
			}
			s, err := remote.Enroll(c.Context(), flags.stateDir, userAgent(), token, opts)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "enrolled as %q at %s; its key is pinned\n", s.Client(), s.URL())
			return err
		},
	}
	flags.bind(c.Flags())
	c.Flags().StringVar(&opts.Identity, "identity", "", "open bundles with this key file in place of a new one: an age identity, or an SSH private key with its .pub beside it")
	c.Flags().StringArrayVar(&opts.Recipients, "recipient", nil, "a further age or SSH public key that can open this host's bundles; may be repeated")
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
		return "", fmt.Errorf("token: %w", err)
	}
	for _, word := range strings.Fields(string(text)) {
		if strings.HasPrefix(word, "apx1-") {
			return word, nil
		}
	}
	return "", usage("token: none on standard input")
}

func newGet() *cobra.Command {
	var flags remoteFlags
	var mode, out, keyType, hookCommand string
	var asJSON bool
	c := &cobra.Command{
		Use:   "get NAME…",
		Short: "Get one certificate for all these names and keep it fresh",
		Long: `get brings a certificate to this host now, as cert.pem, chain.pem, fullchain.pem
and privkey.pem in one folder, and remembers it: "acmeproxy remote run" keeps it
fresh from then on; "acmeproxy remote forget" ends that.

agent    the proxy obtains and renews it, also while this host is away, and
         seals it so that only this host can open it
gateway  the key is made here and never leaves; the proxy passes the certificate
         through and keeps nothing; this host renews it`,
		Example: `  acmeproxy remote get web1.example.com --out /etc/ssl/web1
  acmeproxy remote get web1.example.com www.web1.example.com --mode gateway --hook 'systemctl reload nginx'`,
		Args: someArgs("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			s, err := flags.open(c)
			if err != nil {
				return err
			}
			w, err := wanted(s, args, mode, out, keyType, hookCommand)
			if err != nil {
				return err
			}
			return get(c, s, w, asJSON)
		},
	}
	flags.bind(c.Flags())
	fs := c.Flags()
	fs.StringVar(&mode, "mode", "", "agent or gateway (default what the proxy allows this host, agent if both)")
	fs.StringVar(&out, "out", "", "folder for the files (default certs/NAME in the state directory)")
	fs.StringVar(&keyType, "key-type", string(cert.EC256), "ec256, ec384, rsa2048, rsa4096, rsa8192")
	fs.StringVar(&hookCommand, "hook", "", "shell command to run after the files changed, now and at each renewal")
	fs.BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// wanted checks what was asked for; relative paths are from here.
func wanted(s *remote.State, args []string, mode, out, keyType, hookCommand string) (w remote.Wanted, err error) {
	if w.Names, err = cert.ParseNames(splitCommas(args)...); err != nil {
		return w, usage("names: %w", err)
	}
	if w.KeyType, err = cert.ParseKeyType(keyType); err != nil {
		return w, usage("key-type: %w", err)
	}
	if mode == "" {
		mode = s.DefaultMode()
	}
	if out == "" {
		out = defaultOut(s, w.Names)
	}
	if w.Out, err = filepath.Abs(out); err != nil {
		return w, err
	}
	w.Mode, w.Hook = mode, hookCommand
	if err := w.Validate(); err != nil {
		return w, usageError{err}
	}
	return w, nil
}

func splitCommas(args []string) []string {
	var names []string
	for _, a := range args {
		names = append(names, strings.Split(a, ",")...)
	}
	return names
}

func defaultOut(s *remote.State, names cert.Names) string {
	return filepath.Join(s.Dir, "certs", strings.NewReplacer("*", "_wildcard", ":", "-").Replace(names[0]))
}

func get(c *cobra.Command, s *remote.State, w remote.Wanted, asJSON bool) error {
	p := newProgress(c.ErrOrStderr(), w.Names[0], len(w.Names)+5)
	g, err := s.Getter(p.event)
	if err != nil {
		return err
	}
	k, err := g.Get(c.Context(), w)
	p.done()
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(c.OutOrStdout(), k)
	}
	_, err = fmt.Fprintf(c.OutOrStdout(), "%s: certificate %s, valid until %s\nfiles in %s\n",
		strings.Join(k.Names, " "), k.Serial, moment(k.NotAfter), k.Out)
	return err
}

func newRun() *cobra.Command {
	var flags remoteFlags
	var file, level, format string
	poll := 15 * time.Minute
	c := &cobra.Command{
		Use:   "run",
		Short: "Keep this host's certificates fresh (daemon)",
		Long: `run brings every certificate that an earlier get asked for, or that the
configuration file lists, to the disk; it asks the proxy for news at each poll
(agent), renews when it is time (gateway), and runs a certificate's hook once for
each change. A failure of one certificate holds up no other.

The configuration file, besides the flags below:

  certificates:
    - names: [web1.example.com, www.web1.example.com]
      mode: agent
      out: /etc/ssl/web1
      hook: systemctl reload nginx`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			file = remoteConfigFile(file)
			if err := load(c, file, config.WithKeys(config.CertificatesKey)); err != nil {
				return err
			}
			logger, err := config.NewLogger(c.ErrOrStderr(), level, format)
			if err != nil {
				return usageError{err}
			}
			s, err := remote.Open(flags.stateDir, userAgent())
			if err != nil {
				return err
			}
			list, err := configured(s, file)
			if err != nil {
				return err
			}
			logger.Info("keeping certificates fresh", "proxy", s.URL(), "client", s.Client(), "poll", poll.String())
			return remote.Run(c.Context(), remote.RunConfig{State: s, Wanted: list, Poll: poll, Logger: logger})
		},
	}
	flags.bind(c.Flags())
	fs := c.Flags()
	fs.StringVar(&file, "config", "", "configuration file (YAML); default "+defaultRemoteFile+" if it is there")
	fs.DurationVar(&poll, "poll", poll, "how often to ask for news, with some jitter")
	fs.StringVar(&level, "log-level", "info", "debug, info, warn or error")
	fs.StringVar(&format, "log-format", "text", "text or json")
	return c
}

const defaultRemoteFile = "/etc/acmeproxy/remote.yaml"

func remoteConfigFile(given string) string {
	if given == "" {
		given = os.Getenv("ACMEPROXY_CONFIG")
	}
	if given != "" {
		return given
	}
	if _, err := os.Stat(defaultRemoteFile); err != nil {
		return ""
	}
	return defaultRemoteFile
}

// configured reads the certificates of the configuration file.
func configured(s *remote.State, file string) ([]remote.Wanted, error) {
	if file == "" {
		return nil, nil
	}
	list, err := config.LoadRemoteCertificates(file)
	if err != nil {
		return nil, usageError{err}
	}
	var all []remote.Wanted
	for _, r := range list {
		w, err := wanted(s, r.Names, r.Mode, r.Out, r.KeyType, r.Hook)
		if err != nil {
			return nil, err
		}
		all = append(all, w)
	}
	return all, nil
}

func newRemoteList() *cobra.Command {
	var flags remoteFlags
	var asJSON bool
	c := &cobra.Command{
		Use:   "list",
		Short: "List the certificates that this host keeps fresh",
		Args:  noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := flags.open(c)
			if err != nil {
				return err
			}
			all, err := s.Kept()
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(c.OutOrStdout(), all)
			}
			t := newTable(c.OutOrStdout(), "NAMES", "MODE", "EXPIRES", "FILES", "TROUBLE")
			for _, k := range all {
				t.row(strings.Join(k.Names, " "), k.Mode, moment(k.NotAfter), k.Out, k.LastError)
			}
			return t.flush()
		},
	}
	flags.bind(c.Flags())
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// remoteStatus is what status shows.
type remoteStatus struct {
	Proxy        string            `json:"proxy"`
	Client       api.Client        `json:"client"`
	Certificates []api.Certificate `json:"certificates"`
}

func newRemoteStatus() *cobra.Command {
	var flags remoteFlags
	var asJSON bool
	c := &cobra.Command{
		Use:   "status",
		Short: "Ask the proxy who this host is, what it may, and how its certificates are",
		Args:  noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := flags.open(c)
			if err != nil {
				return err
			}
			client, err := s.API()
			if err != nil {
				return err
			}
			st := remoteStatus{Proxy: s.URL()}
			if st.Client, err = client.Self(c.Context()); err != nil {
				return err
			}
			if st.Certificates, err = client.Certificates(c.Context()); err != nil {
				return err
			}
			if asJSON {
				return printJSON(c.OutOrStdout(), st)
			}
			return printRemoteStatus(c, st)
		},
	}
	flags.bind(c.Flags())
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func printRemoteStatus(c *cobra.Command, st remoteStatus) error {
	c.SetOut(c.OutOrStdout())
	c.Printf("proxy   %s\nclient  %s\n", st.Proxy, st.Client.Name)
	for _, g := range st.Client.Grants {
		c.Printf("may     %s  modes %s\n", strings.Join(g.Names, ","), strings.Join(g.Modes, ","))
	}
	if len(st.Certificates) == 0 {
		return nil
	}
	c.Println()
	t := newTable(c.OutOrStdout(), "NAMES", "STATUS", "EXPIRES", "NEXT ATTEMPT", "TROUBLE")
	for _, m := range st.Certificates {
		t.row(strings.Join(m.Names, " "), m.Status, optional(m.NotAfter), optional(m.NextAttempt), m.LastError)
	}
	return t.flush()
}

func newForget() *cobra.Command {
	var flags remoteFlags
	c := &cobra.Command{
		Use:   "forget NAME…",
		Short: "Stop keeping the certificate of these names fresh; its files stay",
		Args:  someArgs("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			s, err := flags.open(c)
			if err != nil {
				return err
			}
			names, err := cert.ParseNames(splitCommas(args)...)
			if err != nil {
				return usage("names: %w", err)
			}
			n, err := s.Forget(names)
			if err != nil {
				return err
			}
			if n == 0 {
				return fmt.Errorf("nothing is kept for %s; acmeproxy remote list shows what is", names)
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s is no longer kept fresh here\n", names)
			return err
		},
	}
	flags.bind(c.Flags())
	return c
}
