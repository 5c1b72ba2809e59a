package cmd

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
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
	for _, sub := range []*cobra.Command{newEnroll(), newGet(), newRun(), newRemoteCheck(), newRemoteList(), newRemoteStatus(), newRenew(), newRekey(), newRevoke(), newForget(), newPresent(), newWithdraw()} {
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
			pending, err := flags.pendingEntries(s)
			if err != nil {
				return err
			}
			if asJSON {
				reports := make([]remote.Report, 0, len(all))
				for _, k := range all {
					reports = append(reports, k.Report())
				}
				for _, e := range pending {
					r := (&remote.Kept{Wanted: e.wanted}).Report()
					r.Pending = true
					reports = append(reports, r)
				}
				return printJSON(c.OutOrStdout(), reports)
			}
			t := newTable(c.OutOrStdout(), "NAME", "NAMES", "MODE", "EXPIRES", "FILES", "PROBLEM")
			for _, k := range all {
				t.row(k.Name, list(k.Names, " "), string(k.Mode), moment(k.NotAfter), k.Out, keptProblem(k))
			}
			for _, e := range pending {
				t.row(e.wanted.Name, list(e.wanted.Names, " "), string(e.wanted.Mode), "-", e.wanted.Out, e.pendingProblem())
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
	Problems     []localProblem    `json:"problems,omitempty"`
}

// localProblem describes a certificate of this host that needs a decision.
type localProblem struct {
	Name    string     `json:"name"`
	Names   cert.Names `json:"names"`
	Out     string     `json:"out"`
	Problem string     `json:"problem"`
}

// localProblems lists the certificates that share a folder or that the configuration
// file no longer lists.
func localProblems(s *remote.State) []localProblem {
	var problems []localProblem
	all, _ := s.Kept() // list reports damaged files
	for _, k := range all {
		if what := keptDecision(k); what != "" {
			problems = append(problems, localProblem{k.Name, k.Names, k.Out, what})
		}
	}
	return problems
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
			st.Problems = localProblems(s)
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
	for _, p := range st.Problems {
		printf(c, "problem %s: %s\n", p.Name, p.Problem)
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
