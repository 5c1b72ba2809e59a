package cmd

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/config"
	"github.com/acmeproxy/acmeproxy/pkg/frontend/admin"
)

// adminFlags holds the flags of all commands that connect to a running proxy.
type adminFlags struct {
	dataDir string
	config  string
	json    bool
}

func (f *adminFlags) bind(fs *pflag.FlagSet) {
	f.dataDir = defaultDataDir(os.Geteuid(), os.Getenv)
	dataDirFlag(fs, &f.dataDir)
	configFlag(fs, &f.config)
	fs.BoolVar(&f.json, "json", false, "print JSON")
}

// dial returns a client of the proxy's socket. The socket is in --data-dir, or in
// the data directory that serve reads from the environment and its configuration
// file. dial reads no other flag from there, because serve's ACMEPROXY_KEY_TYPE
// must not narrow the grant of clients add.
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

// dialDespite does the same as dial, but also returns a client if the configuration
// file is invalid: for the data directory that can be read nevertheless.
func (f *adminFlags) dialDespite(c *cobra.Command) (_ *admin.Admin, invalid error) {
	dir := f.dataDir
	if !c.Flags().Changed("data-dir") {
		var cfg config.Serve
		if cfg, invalid = serveSettings(f.config); cfg.DataDir != "" {
			dir = cfg.DataDir
		}
	}
	return admin.Dial(filepath.Join(dir, admin.SocketName)), invalid
}

// serveSettings returns the settings that serve reads from the environment and its
// configuration file.
func serveSettings(file string) (config.Serve, error) {
	cfg, err := config.Load(new(pflag.FlagSet), os.Getenv, configFile(file), bindServe)
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
of its own host. With PostgreSQL, it also shows which other instances on the same
database it receives notifications from, or why it receives none.`,
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
	if s.ACME != nil {
		printf(c, "ACME      %s\n", s.ACME.Directory)
		switch {
		case s.ACME.NotFor != "":
			printf(c, "          not trusted by ACME programs: the certificate is not for %s; set --hostname to that name, or add it with --domain\n", s.ACME.NotFor)
		case s.ACME.SelfSigned:
			printf(c, "          not trusted by ACME programs yet: the certificate is self-signed; see acmeproxy clients acme --for\n")
		}
	}
	printInstances(c, s.Instances)
	for _, need := range s.Needs {
		printf(c, "needs     %s\n", need)
	}
	if len(s.Certificates) == 0 {
		return nil
	}
	printf(c, "\n")
	t := newTable(c.OutOrStdout(), "NAMES", "EXPIRES", "NEXT ATTEMPT", "PROBLEM")
	for _, cert := range s.Certificates {
		t.row(list(cert.Names, " "), moment(cert.NotAfter), moment(cert.NextAttempt), describeProblem(cert))
	}
	return t.flush()
}

// printInstances prints the instances that share the database.
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
	if all.Problem != "" {
		printf(c, "problem   %s\n", all.Problem)
	}
}

// describeProblem returns why a certificate is not up to date, or an empty string.
func describeProblem(c admin.Certificate) string {
	if !c.SupersededAt.IsZero() {
		return "superseded: a name passed to another client"
	}
	var all []string
	if c.NotConfigured {
		all = append(all, "not configured any more, so not renewed")
	}
	if c.Disabled {
		all = append(all, "client disabled, so not renewed")
	}
	switch {
	case !c.RevokedAt.IsZero() && c.LastError != "":
		all = append(all, "revoked; not replaced yet: "+c.LastError)
	case !c.RevokedAt.IsZero():
		all = append(all, "revoked; not replaced yet")
	case c.LastError != "":
		all = append(all, withCheck(c))
	}
	if c.Deployment != nil {
		all = append(all, describeHook(c))
	}
	return strings.Join(all, "; ")
}

// withCheck returns the last error, and how to find out why the CA cannot validate.
func withCheck(c admin.Certificate) string {
	if !acme.IsValidationText(c.LastError) {
		return c.LastError
	}
	return c.LastError + "; to see why, run acmeproxy check " + strings.Join(c.Names, " ")
}

// describeHook returns the state of a pending deployment, and its next attempt.
func describeHook(c admin.Certificate) string {
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
	var since string
	c := &cobra.Command{
		Use:   "audit",
		Short: "Show who requested what, and the outcome",
		Long: `audit shows the newest entries of the audit trail, including refusals. It has
no entries for certificates of the gateway, only for refused requests.`,
		Example: `  acmeproxy audit --outcome refused --since 2h
  acmeproxy audit --name www.example.com --since 2026-01-31`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := errors.Join(notBlankFlags(c, "client", "outcome", "name", "since"), checkAuditQuery(&q, since, time.Now())); err != nil {
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
			if err := t.flush(); err != nil {
				return err
			}
			if page.Before > 0 {
				printErrf(c, "there may be older entries; --before %d shows them, --limit up to 200 shows more\n", page.Before)
			}
			return nil
		},
	}
	flags.bind(c.Flags())
	c.Flags().StringVar(&q.Client, "client", "", "only the entries of the client with this `name`")
	c.Flags().StringVar(&q.Outcome, "outcome", "", "only entries with this `outcome`: allowed, refused, done or failed")
	c.Flags().StringVar(&q.Name, "name", "", "only entries with this `name` of a certificate")
	c.Flags().StringVar(&since, "since", "", "only entries of this `time` and later: 2h or 7d ago, 2026-01-31, or 2026-01-31 15:04 (UTC)")
	c.Flags().IntVar(&q.Limit, "limit", 50, "`number` of entries, at most 200")
	c.Flags().Int64Var(&q.Before, "before", 0, "only entries older than the one with this `id` (see --json)")
	return c
}

// outcomes lists the possible outcomes of an audit entry.
var outcomes = []string{"allowed", "refused", "done", "failed"}

// checkAuditQuery reports all faults, and sets the name and the time.
func checkAuditQuery(q *admin.AuditQuery, since string, now time.Time) error {
	var faults []error
	if q.Name != "" {
		name, err := cert.ParseName(q.Name)
		if err != nil {
			faults = append(faults, usage("name: %w", err))
		}
		q.Name = name
	}
	if since != "" {
		var err error
		if q.Since, err = parseSince(since, now); err != nil {
			faults = append(faults, usage("since: %w", err))
		}
	}
	if q.Outcome != "" && !slices.Contains(outcomes, q.Outcome) {
		faults = append(faults, usage("outcome: %q is unknown; use one of %s", q.Outcome, strings.Join(outcomes, ", ")))
	}
	if q.Limit < 1 || q.Limit > 200 {
		faults = append(faults, usage("limit: %d is out of range; use 1 to 200, and --before for older entries", q.Limit))
	}
	if q.Before < 0 {
		faults = append(faults, usage("before: %d is not an id; use one that --json shows", q.Before))
	}
	return errors.Join(faults...)
}
