package cmd

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/acmeproxy/acmeproxy/pkg/config"
	"github.com/acmeproxy/acmeproxy/pkg/frontend/admin"
)

// adminFlags are those of all commands that talk to a running proxy.
type adminFlags struct {
	dataDir string
	config  string
	json    bool
}

func (f *adminFlags) bind(fs *pflag.FlagSet) {
	f.dataDir = config.DefaultDataDir()
	dataDirFlag(fs, &f.dataDir)
	configFlag(fs, &f.config)
	fs.BoolVar(&f.json, "json", false, "print JSON")
}

// dial finds the proxy's socket: --data-dir, or what serve itself would take
// from the environment and the configuration file. No other flag is taken from
// there: serve's ACMEPROXY_KEY_TYPE must not narrow the grant of clients add.
func (f *adminFlags) dial(c *cobra.Command) (*admin.Admin, error) {
	dir := f.dataDir
	if !c.Flags().Changed("data-dir") {
		cfg, err := serveSettings(f.config)
		if err != nil {
			return nil, err
		}
		dir = cfg.DataDir
	}
	return admin.Dial(filepath.Join(dir, admin.SocketName)), nil
}

// serveSettings are what serve itself would take from the environment and the
// configuration file.
func serveSettings(file string) (config.Serve, error) {
	cfg, err := config.Load(new(pflag.FlagSet), configFile(file), bindServe)
	if err != nil {
		return *cfg, usageError{err}
	}
	return *cfg, nil
}

func newStatus() *cobra.Command {
	var flags adminFlags
	c := &cobra.Command{
		Use:   "status",
		Short: "Show the proxy's state and the certificates of its own host",
		Long: `status shows where a running proxy listens, what it needs, and the certificates
of its own host. With PostgreSQL it shows, too, which other instances on the same
database it hears, and what keeps it from hearing any.`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			a, err := flags.dial(c)
			if err != nil {
				return err
			}
			s, err := a.Status(c.Context())
			if err != nil {
				return err
			}
			if flags.json {
				return printJSON(c.OutOrStdout(), s)
			}
			return printStatus(c, s)
		},
	}
	flags.bind(c.Flags())
	return c
}

func printStatus(c *cobra.Command, s admin.Status) error {
	printf(c, "acmeproxy %s\nHTTP-01   %s\nAPI       %s\nCA        %s\nstore     %s\n",
		s.Version, s.HTTPAddr, s.HTTPSAddr, s.Directory, s.Store)
	if s.Hostname != "" {
		printf(c, "hostname  %s\n", s.Hostname)
	}
	printInstances(c, s.Instances)
	for _, need := range s.Needs {
		printf(c, "needs     %s\n", need)
	}
	if len(s.Certificates) == 0 {
		return nil
	}
	printf(c, "\n")
	t := newTable(c.OutOrStdout(), "NAMES", "EXPIRES", "NEXT ATTEMPT", "TROUBLE")
	for _, cert := range s.Certificates {
		t.row(list(cert.Names, " "), moment(cert.NotAfter), moment(cert.NextAttempt), trouble(cert))
	}
	return t.flush()
}

// printInstances shows whom this instance shares its database with.
func printInstances(c *cobra.Command, all *admin.Instances) {
	if all == nil {
		return
	}
	printf(c, "instances %s (this one)\n", all.Self)
	for _, o := range all.Others {
		printf(c, "          %s", o.Name)
		if o.Silent {
			printf(c, " (does not acknowledge answers to challenges)")
		}
		printf(c, "\n")
	}
	if all.Trouble != "" {
		printf(c, "trouble   %s\n", all.Trouble)
	}
}

func trouble(c admin.Certificate) string {
	if !c.SupersededAt.IsZero() {
		return "superseded: a name passed to another client"
	}
	if !c.RevokedAt.IsZero() {
		text := "revoked; no other one yet"
		if c.LastError != "" {
			text += ": " + c.LastError
		}
		return text
	}
	if c.Failures > 0 || c.Deployment == nil {
		return c.LastError // a fault of this host is not counted
	}
	text := "deployment: "
	if c.HookError != "" {
		text += c.HookError + "; "
	}
	if c.Deployment.RunBy != "" {
		return text + "running at " + c.Deployment.RunBy
	}
	return text + "next attempt " + moment(c.Deployment.NextAttempt)
}

func newAudit() *cobra.Command {
	var flags adminFlags
	var q admin.AuditQuery
	c := &cobra.Command{
		Use:   "audit",
		Short: "Show who asked for what, and what came of it",
		Long: `audit shows the newest entries of the audit trail, refusals included. Of what
goes through the gateway nothing is kept: only its refusals are here.`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := checkAuditQuery(q); err != nil {
				return err
			}
			a, err := flags.dial(c)
			if err != nil {
				return err
			}
			page, err := a.Audit(c.Context(), q)
			if err != nil {
				return err
			}
			if flags.json {
				return printJSON(c.OutOrStdout(), page)
			}
			t := newTable(c.OutOrStdout(), "TIME", "OUTCOME", "CLIENT", "FROM", "ACTION", "MODE", "NAMES", "DETAIL")
			for _, e := range page.Entries {
				t.row(moment(e.At), e.Outcome, e.Client, e.Addr, e.Action, string(e.Mode), list(e.Names, " "), e.Detail)
			}
			return t.flush()
		},
	}
	flags.bind(c.Flags())
	c.Flags().StringVar(&q.Client, "client", "", "only the entries of the client with this `name`")
	c.Flags().StringVar(&q.Outcome, "outcome", "", "only entries with this `outcome`: allowed, refused, done or failed")
	c.Flags().IntVar(&q.Limit, "limit", 50, "`number` of entries, at most 200")
	c.Flags().Int64Var(&q.Before, "before", 0, "only entries older than the one with this `id` (see --json)")
	return c
}

// outcomes are what an entry of the audit trail may say in the end.
var outcomes = []string{"allowed", "refused", "done", "failed"}

func checkAuditQuery(q admin.AuditQuery) error {
	var faults []error
	if q.Outcome != "" && !slices.Contains(outcomes, q.Outcome) {
		faults = append(faults, usage("outcome: %q is none; write one of %s", q.Outcome, strings.Join(outcomes, ", ")))
	}
	if q.Limit < 1 || q.Limit > 200 {
		faults = append(faults, usage("limit: %d is out of range; write 1 to 200, and ask for older entries with --before", q.Limit))
	}
	return errors.Join(faults...)
}
