package cmd

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/cert/certfile"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/config"
	"github.com/acmeproxy/acmeproxy/pkg/remote"
)

func newRemote() *cobra.Command {
	c := &cobra.Command{
		Use:   "remote",
		Short: "Get certificates through a proxy, on an internal host",
		Long: `remote runs on the hosts behind the firewall. It connects to the proxy, through
HTTPS_PROXY if that is set, and opens no port.`,
		Args: subcommand,
		RunE: showHelp,
	}
	for _, sub := range []*cobra.Command{newEnroll(), newGet(), newRun(), newRemoteCheck(), newRemoteList(), newRemoteStatus(), newRenew(), newRekey(), newRevoke(), newForget()} {
		c.AddCommand(withRemedy(sub))
	}
	return c
}

// remoteFlags holds the flags of all remote commands.
type remoteFlags struct{ stateDir, config string }

func (f *remoteFlags) bind(fs *pflag.FlagSet) {
	f.stateDir = defaultStateDir()
	fs.StringVar(&f.stateDir, "state-dir", f.stateDir, "`folder` for this host's keys and state")
	fs.StringVar(&f.config, "config", "", "configuration `file` of remote run (YAML); default "+defaultFile("remote.yaml")+" if it is there")
}

// defaultStateDir returns a folder beside the proxy's data directory, so that one
// host can run both serve and remote.
func defaultStateDir() string {
	return filepath.Join(filepath.Dir(defaultDataDir(os.Geteuid(), os.Getenv)), "acmeproxy-remote")
}

func userAgent() string { return "acmeproxy-remote/" + programVersion() }

// load fills the flags of a command from the environment. It uses the same state
// directory as remote run, which may be set in that command's configuration file.
func (f *remoteFlags) load(c *cobra.Command) error {
	if err := config.LoadEnvironment(c.Flags(), os.Getenv); err != nil {
		return usageError{err}
	}
	if c.Flags().Changed("state-dir") || os.Getenv(config.EnvName("state-dir")) != "" {
		return nil // they override the file
	}
	daemon, err := config.Load(new(pflag.FlagSet), os.Getenv, remoteConfigFile(f.config), bindRun, config.CertificatesKey)
	if err != nil {
		return usageError{err}
	}
	f.stateDir = daemon.stateDir
	return nil
}

func (f *remoteFlags) open(c *cobra.Command) (*remote.State, error) {
	if err := f.load(c); err != nil {
		return nil, err
	}
	return openState(f.stateDir)
}

// openState reads the state directory, for a remote with this process's environment.
func openState(dir string) (*remote.State, error) {
	s, err := remote.Open(dir, userAgent())
	if err == nil {
		s.Environment = environment()
	}
	return s, err
}

func environment() remote.Environment {
	return remote.Environment{Getenv: os.Getenv, Environ: os.Environ()}
}

func newGet() *cobra.Command {
	var flags remoteFlags
	var mode, out, keyType, hookCommand, profile string
	var layout certfile.Layout
	var renew, asJSON bool
	c := &cobra.Command{
		Use:   "get NAME…",
		Short: "Get one certificate for all these names, and renew it from then on",
		Long: `get writes a certificate to this host now, as cert.pem, chain.pem, fullchain.pem
and privkey.pem in one folder. From then on "acmeproxy remote run" renews it,
until "acmeproxy remote forget". A later get of the same names uses the earlier
values of the options that you do not give.

--renew requests a new key and certificate now, even if the present ones are not
due, for example after a theft. In agent mode the proxy allows this once an hour. In
gateway mode each get requests a new certificate.

--format adds files for HAProxy (haproxy.pem) and others (bundle.p12, PKCS#12).
--format pem removes them again. All files change together.

agent    the proxy obtains and renews it, even while this host is offline, and
         seals it so that only this host can open it
gateway  the key is created here and never leaves this host; the proxy passes the
         certificate on and stores nothing; this host renews it

The modes' full names, certificate-agent and acme-gateway, are accepted too.`,
		Example: `  acmeproxy remote get web1.example.com --out /etc/ssl/web1
  acmeproxy remote get web1.example.com www.web1.example.com --mode gateway --hook 'systemctl reload nginx'
  acmeproxy remote get web1.example.com --renew`,
		Args: someArgs("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			s, err := flags.open(c)
			if err != nil {
				return err
			}
			w, err := wanted(s, args, mode, out, keyType, hookCommand, profile)
			if err != nil {
				return err
			}
			if layout.PKCS12PasswordFile != "" {
				if layout.PKCS12PasswordFile, err = filepath.Abs(layout.PKCS12PasswordFile); err != nil {
					return err
				}
			}
			w.Layout = layout
			w = asBefore(c, s, w)
			if err := w.Validate(); err != nil {
				return usageError{err}
			}
			return get(c, s, w, renew, asJSON)
		},
	}
	flags.bind(c.Flags())
	fs := c.Flags()
	fs.StringVar(&mode, "mode", "", "`mode`: agent or gateway (default the mode that the proxy allows this host, agent if both)")
	fs.StringVar(&out, "out", "", "`folder` for the files (default certs/NAME in the state directory)")
	fs.StringVar(&keyType, "key-type", string(cert.EC256), "`type` of the key: ec256, ec384, rsa2048, rsa4096, rsa8192")
	fs.StringVar(&profile, "profile", "", "the CA's `profile`, such as shortlived (default the CA's)")
	fs.StringVar(&hookCommand, "hook", "", "shell `command` to run after the files change, now and at each renewal")
	fs.BoolVar(&renew, "renew", false, "request a new key and certificate, even if the present ones are not due")
	layoutFlags(fs, &layout)
	fs.BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// wanted checks the flags or settings of a certificate. Relative paths start at the
// working directory.
func wanted(s *remote.State, args []string, mode, out, keyType, hookCommand, profile string) (w remote.Wanted, err error) {
	if w.Names, err = cert.ParseNames(splitCommas(args)...); err != nil {
		return w, usage("names: %w", err)
	}
	if w.KeyType, err = cert.ParseKeyType(keyType); err != nil {
		return w, usage("key-type: %w", err)
	}
	if w.Mode = clients.Mode(mode).Canonical(); mode == "" {
		w.Mode = s.DefaultMode()
	}
	if out == "" {
		out = defaultOut(s, w.Names)
	}
	if w.Out, err = filepath.Abs(out); err != nil {
		return w, err
	}
	w.Hook, w.Profile = hookCommand, profile
	return w, nil
}

// asBefore returns w with the options that were not given now set to those of the
// last get. Repeating a get must not move its files or drop its hook.
func asBefore(c *cobra.Command, s *remote.State, w remote.Wanted) remote.Wanted {
	last, ok := s.Remembered(w.Mode, w.Names)
	if !ok {
		return w
	}
	for flag, take := range map[string]func(){
		"out":      func() { w.Out = last.Out },
		"hook":     func() { w.Hook = last.Hook },
		"key-type": func() { w.KeyType = last.KeyType },
		"profile":  func() { w.Profile = last.Profile },
		"format":   func() { w.Formats = last.Formats },
		"owner":    func() { w.Owner = last.Owner },
		"key-mode": func() { w.KeyMode = last.KeyMode },

		"pkcs12-password-file": func() { w.PKCS12PasswordFile = last.PKCS12PasswordFile },
	} {
		f := c.Flags().Lookup(flag)
		if !f.Changed && f.Value.String() == f.DefValue { // not set in the environment or the file either
			take()
		}
	}
	return w
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

func get(c *cobra.Command, s *remote.State, w remote.Wanted, renew, asJSON bool) error {
	events := len(w.Names) + 5 // for a gateway; see acme.Stage
	if w.Mode.IsUnattended() {
		events = 2
	}
	warn(c, w.Risk())
	if rel, err := filepath.Rel(s.Dir, w.Out); w.Owner != "" && err == nil && filepath.IsLocal(rel) {
		warn(c, "owner: no other user can enter the state directory, which holds the files; set --out to a folder elsewhere")
	}
	p := newProgress(c.ErrOrStderr(), w.Names[0], events)
	g, err := s.Getter(p.event)
	if err != nil {
		return err
	}
	do := g.Get
	if renew {
		do = g.Renew
	}
	k, err := do(c.Context(), w)
	p.done()
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(c.OutOrStdout(), k.Report())
	}
	_, err = printf(c, "%s: certificate %s, valid until %s\nfiles in %s\n",
		strings.Join(k.Names, " "), k.Serial, moment(k.NotAfter), k.Out)
	return err
}

func newRemoteList() *cobra.Command {
	var flags remoteFlags
	var asJSON bool
	c := &cobra.Command{
		Use:   "list",
		Short: "List the certificates that this host renews",
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
				reports := make([]remote.Report, 0, len(all))
				for _, k := range all {
					reports = append(reports, k.Report())
				}
				return printJSON(c.OutOrStdout(), reports)
			}
			t := newTable(c.OutOrStdout(), "NAMES", "MODE", "EXPIRES", "FILES", "PROBLEM")
			for _, k := range all {
				t.row(list(k.Names, " "), string(k.Mode), moment(k.NotAfter), k.Out, keptProblem(k))
			}
			return t.flush()
		},
	}
	flags.bind(c.Flags())
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// remoteStatus holds the output of status.
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
		Short: "Show this host's client, grants and certificates at the proxy",
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
	printf(c, "proxy   %s\nclient  %s\n", st.Proxy, st.Client.Name)
	for _, g := range st.Client.Grants {
		printf(c, "may     %s  modes %s\n", strings.Join(g.Names, ","), clients.JoinModes(g.Modes, ","))
	}
	if len(st.Certificates) == 0 {
		return nil
	}
	printf(c, "\n")
	t := newTable(c.OutOrStdout(), "NAMES", "STATUS", "EXPIRES", "NEXT ATTEMPT", "PROBLEM")
	for _, m := range st.Certificates {
		t.row(list(m.Names, " "), m.Status, optional(m.NotAfter), optional(m.NextAttempt), m.LastError)
	}
	return t.flush()
}

// forgotten holds the output of forget.
type forgotten struct {
	Names cert.Names     `json:"names"`
	Modes []clients.Mode `json:"modes"` // of the certificates that were forgotten
}

func newForget() *cobra.Command {
	var flags remoteFlags
	var asJSON bool
	c := &cobra.Command{
		Use:   "forget NAME…",
		Short: "Stop renewing the certificates of these names; their files stay",
		Long: `forget makes "acmeproxy remote run" ignore the certificates of these names, in
both modes. The files stay. In agent mode the proxy continues to renew the
certificate, until the proxy's administrator removes the client or the
certificate.`,
		SuggestFor: []string{"rm", "remove", "delete"},
		Args:       someArgs("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			s, err := flags.open(c)
			if err != nil {
				return err
			}
			names, err := cert.ParseNames(splitCommas(args)...)
			if err != nil {
				return usage("names: %w", err)
			}
			modes, err := s.Forget(c.Context(), names)
			if err != nil {
				return err
			}
			if len(modes) == 0 {
				return fmt.Errorf("this host has no certificate for %s; run acmeproxy remote list to see all", names)
			}
			if asJSON {
				return printJSON(c.OutOrStdout(), forgotten{names, modes})
			}
			for _, mode := range modes {
				if _, err := printf(c, "%s, %s mode, is no longer renewed here\n", names, mode); err != nil {
					return err
				}
			}
			return nil
		},
	}
	flags.bind(c.Flags())
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}
