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
		Short: "Get certificates through a proxy, from inside",
		Long: `remote runs on the hosts behind the firewall. It dials out to the proxy, through
HTTPS_PROXY if that is set, and listens to nothing.`,
		Args: subcommand,
		RunE: showHelp,
	}
	c.AddCommand(newEnroll(), newGet(), newRun(), newRemoteList(), newRemoteStatus(), newRekey(), newRevoke(), newForget())
	return c
}

// remoteFlags are those of all remote commands.
type remoteFlags struct{ stateDir, config string }

func (f *remoteFlags) bind(fs *pflag.FlagSet) {
	f.stateDir = defaultStateDir()
	fs.StringVar(&f.stateDir, "state-dir", f.stateDir, "`folder` for this host's keys and state")
	fs.StringVar(&f.config, "config", "", "configuration `file` of remote run (YAML); default "+defaultRemoteFile+" if it is there")
}

// defaultStateDir is beside the proxy's data directory, so that one host may
// be both.
func defaultStateDir() string {
	return filepath.Join(filepath.Dir(config.DefaultDataDir()), "acmeproxy-remote")
}

func userAgent() string { return "acmeproxy-remote/" + programVersion() }

// load fills the flags of one call from the environment. The state directory
// is the one of remote run, which may have it from its configuration file.
func (f *remoteFlags) load(c *cobra.Command) error {
	if err := config.LoadEnvironment(c.Flags()); err != nil {
		return usageError{err}
	}
	if c.Flags().Changed("state-dir") || os.Getenv(config.EnvName("state-dir")) != "" {
		return nil // whatever the file says
	}
	daemon, err := config.Load(new(pflag.FlagSet), remoteConfigFile(f.config), bindRun, config.CertificatesKey)
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
	return remote.Open(f.stateDir, userAgent())
}

func newGet() *cobra.Command {
	var flags remoteFlags
	var mode, out, keyType, hookCommand, profile string
	var layout certfile.Layout
	var renew, asJSON bool
	c := &cobra.Command{
		Use:   "get NAME…",
		Short: "Get one certificate for all these names and keep it fresh",
		Long: `get brings a certificate to this host now, as cert.pem, chain.pem, fullchain.pem
and privkey.pem in one folder, and remembers it: "acmeproxy remote run" keeps it
fresh from then on; "acmeproxy remote forget" ends that. A later get of the same
names takes what it is not told from the earlier one.

--renew asks for a new key and certificate now, also if the present ones are good
for long, such as after a theft. In agent mode the proxy allows it once an hour;
in gateway mode each get is a new one anyway.

--format adds files for HAProxy (haproxy.pem) and others (bundle.p12, PKCS#12);
--format pem ends that. All files change together.

agent    the proxy obtains and renews it, also while this host is away, and
         seals it so that only this host can open it
gateway  the key is made here and never leaves; the proxy passes the certificate
         through and keeps nothing; this host renews it`,
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
	fs.StringVar(&mode, "mode", "", "`mode`: agent or gateway (default what the proxy allows this host, agent if both)")
	fs.StringVar(&out, "out", "", "`folder` for the files (default certs/NAME in the state directory)")
	fs.StringVar(&keyType, "key-type", string(cert.EC256), "`type` of the key: ec256, ec384, rsa2048, rsa4096, rsa8192")
	fs.StringVar(&profile, "profile", "", "the CA's `profile`, such as shortlived (default the CA's)")
	fs.StringVar(&hookCommand, "hook", "", "shell `command` to run after the files changed, now and at each renewal")
	fs.BoolVar(&renew, "renew", false, "ask for a new key and certificate, whatever the age of the present ones")
	layoutFlags(fs, &layout)
	fs.BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// wanted checks what was asked for; relative paths are from here.
func wanted(s *remote.State, args []string, mode, out, keyType, hookCommand, profile string) (w remote.Wanted, err error) {
	if w.Names, err = cert.ParseNames(splitCommas(args)...); err != nil {
		return w, usage("names: %w", err)
	}
	if w.KeyType, err = cert.ParseKeyType(keyType); err != nil {
		return w, usage("key-type: %w", err)
	}
	if w.Mode = clients.Mode(mode); mode == "" {
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

// asBefore takes what was not given this time from the last time: to repeat a
// get must not move its files or drop its hook.
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
		if !f.Changed && f.Value.String() == f.DefValue { // neither the environment nor the file says it
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
	events := len(w.Names) + 5 // of a gateway: see acme.Stage
	if w.Mode.IsUnattended() {
		events = 2
	}
	warn(c, w.Risk())
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
				reports := make([]remote.Report, 0, len(all))
				for _, k := range all {
					reports = append(reports, k.Report())
				}
				return printJSON(c.OutOrStdout(), reports)
			}
			t := newTable(c.OutOrStdout(), "NAMES", "MODE", "EXPIRES", "FILES", "TROUBLE")
			for _, k := range all {
				t.row(list(k.Names, " "), string(k.Mode), moment(k.NotAfter), k.Out, keptTrouble(k))
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
	printf(c, "proxy   %s\nclient  %s\n", st.Proxy, st.Client.Name)
	for _, g := range st.Client.Grants {
		printf(c, "may     %s  modes %s\n", strings.Join(g.Names, ","), clients.JoinModes(g.Modes, ","))
	}
	if len(st.Certificates) == 0 {
		return nil
	}
	printf(c, "\n")
	t := newTable(c.OutOrStdout(), "NAMES", "STATUS", "EXPIRES", "NEXT ATTEMPT", "TROUBLE")
	for _, m := range st.Certificates {
		t.row(list(m.Names, " "), m.Status, optional(m.NotAfter), optional(m.NextAttempt), m.LastError)
	}
	return t.flush()
}

// forgotten is what forget shows.
type forgotten struct {
	Names cert.Names `json:"names"`
}

func newForget() *cobra.Command {
	var flags remoteFlags
	var asJSON bool
	c := &cobra.Command{
		Use:   "forget NAME…",
		Short: "Stop keeping the certificate of these names fresh; its files stay",
		Long: `forget makes "acmeproxy remote run" leave the certificate alone. The files stay.
The proxy goes on renewing what it keeps for this host in agent mode, until its
administrator removes the client.`,
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
			n, err := s.Forget(c.Context(), names)
			if err != nil {
				return err
			}
			if n == 0 {
				return fmt.Errorf("nothing is kept for %s; acmeproxy remote list shows what is", names)
			}
			if asJSON {
				return printJSON(c.OutOrStdout(), forgotten{names})
			}
			_, err = printf(c, "%s is no longer kept fresh here\n", names)
			return err
		},
	}
	flags.bind(c.Flags())
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}
