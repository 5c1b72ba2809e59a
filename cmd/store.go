package cmd

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/acmeproxy/acmeproxy/pkg/config"
	"github.com/acmeproxy/acmeproxy/pkg/proxy"
	"github.com/acmeproxy/acmeproxy/pkg/store"
	"github.com/acmeproxy/acmeproxy/pkg/store/dsn"
	"github.com/acmeproxy/acmeproxy/pkg/store/sqldb"
)

func newStore() *cobra.Command {
	c := &cobra.Command{
		Use:   "store",
		Short: "Work on the proxy's database",
		Args:  subcommand,
		RunE:  showHelp,
	}
	c.AddCommand(newStoreMigrate(), newStoreCopy())
	return c
}

// storeFlags find the database that serve is set up with.
type storeFlags struct {
	dataDir, config string
	json            bool
}

func (f *storeFlags) bind(fs *pflag.FlagSet) {
	f.dataDir = config.DefaultDataDir()
	dataDirFlag(fs, &f.dataDir)
	configFlag(fs, &f.config)
	fs.BoolVar(&f.json, "json", false, "print JSON")
}

// settings are serve's, with the data folder that this command was given.
func (f *storeFlags) settings(c *cobra.Command) (config.Serve, error) {
	cfg, err := serveSettings(f.config)
	if c.Flags().Changed("data-dir") {
		cfg.DataDir = f.dataDir
	}
	return cfg, err
}

func newStoreMigrate() *cobra.Command {
	var flags storeFlags
	var url string
	c := &cobra.Command{
		Use:   "migrate",
		Short: "Bring the database's schema up to date",
		Long: `migrate brings the schema of the proxy's database to the version that this
program needs, and says what it did. serve does the same when it starts; this is
for doing it ahead of time, or with another PostgreSQL user. Several instances may
do it at once: one works, the others wait.

A SQLite file with an older schema is first copied to a file beside it, such as
acmeproxy.db.before-6; the last two copies stay. A newer schema is not made older:
make a backup of a PostgreSQL database before an upgrade.`,
		Example: `  acmeproxy store migrate
  acmeproxy store migrate --store postgres://admin@db.example.com/acmeproxy`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := flags.settings(c)
			if err != nil {
				return err
			}
			if c.Flags().Changed("store") {
				cfg.Store = url
			}
			if err := cfg.Validate(); err != nil {
				return usageError{err}
			}
			return migrateStore(c, cfg, flags.json)
		},
	}
	flags.bind(c.Flags())
	storeFlag(c.Flags(), &url)
	return c
}

func migrateStore(c *cobra.Command, cfg config.Serve, asJSON bool) error {
	where := proxy.StoreConfig(cfg)
	if where.URL == "" {
		release, err := proxy.HoldDataDir(cfg.DataDir)
		if err != nil {
			return err
		}
		defer release()
	}
	m, err := store.Migrate(c.Context(), where)
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(c.OutOrStdout(), m)
	}
	if len(m.Applied) == 0 {
		printf(c, "the schema has version %d already: nothing to do\n", m.To)
		return nil
	}
	if m.Copy != "" {
		printf(c, "copied the database to %s first\n", m.Copy)
	}
	for _, name := range m.Applied {
		printf(c, "applied %s\n", name)
	}
	printf(c, "the schema has version %d now, %d before\n", m.To, m.From)
	return nil
}

func newStoreCopy() *cobra.Command {
	var flags storeFlags
	var from, to string
	c := &cobra.Command{
		Use:   "copy",
		Short: "Copy everything into another, empty database",
		Long: `copy brings everything that the proxy keeps from one database into another, such
as from SQLite to PostgreSQL, in one transaction: the target has all of it or
nothing. Every row is read back and compared before it ends. The target must be
empty, and the source stays as it is. A database is a PostgreSQL URL or the path
of a SQLite file.

Stop acmeproxy serve first, on every host that uses either database; copy refuses
to work beside it. Keep the data folder: identity.age in it opens what is sealed
in the database, whichever that is.

A password is best kept out of the command line: without --to, the target is the
store that serve is set up with, in ACMEPROXY_STORE or the configuration file.`,
		Example: `  acmeproxy store copy --to postgres://acmeproxy@db.example.com/acmeproxy
  acmeproxy store copy --from postgres://acmeproxy@db.example.com/acmeproxy --to /var/lib/acmeproxy/acmeproxy.db`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := flags.settings(c)
			if err != nil {
				return err
			}
			source, target := database(from), database(to)
			if from == "" {
				source = store.Config{Path: proxy.StoreConfig(config.Serve{DataDir: cfg.DataDir}).Path}
			}
			if to == "" {
				if cfg.Store == "" {
					return usage("--to is missing: name the database to copy to, such as %s", dsn.Example)
				}
				target = store.Config{URL: cfg.Store}
			}
			if err := checkDatabases(source, target); err != nil {
				return usageError{err}
			}
			return copyStore(c, cfg.DataDir, source, target, flags.json)
		},
	}
	flags.bind(c.Flags())
	c.Flags().StringVar(&from, "from", "", "`database` to copy; default the SQLite file in the data folder")
	c.Flags().StringVar(&to, "to", "", "empty `database` to copy into; default the store that serve is set up with")
	return c
}

// database reads a PostgreSQL URL or a path.
func database(text string) store.Config {
	if dsn.Is(text) {
		return store.Config{URL: text}
	}
	return store.Config{Path: text}
}

func checkDatabases(source, target store.Config) error {
	var faults []error
	for _, d := range []struct{ flag, url string }{{"from", source.URL}, {"to", target.URL}} {
		if _, err := dsn.Parse(d.url); d.url != "" && err != nil {
			faults = append(faults, fmt.Errorf("--%s: %w", d.flag, err))
		}
	}
	if source.URL == target.URL && source.Path == target.Path {
		faults = append(faults, errors.New("--from and --to are the same database; name another for one of them"))
	}
	if source.URL == "" {
		if _, err := os.Stat(source.Path); err != nil {
			faults = append(faults, fmt.Errorf("--from: %w; name the database to copy", err))
		}
	}
	return errors.Join(faults...)
}

// copied is what copy shows.
type copied struct {
	From   string         `json:"from"`
	To     string         `json:"to"`
	Tables []sqldb.Copied `json:"tables"`
}

func copyStore(c *cobra.Command, dataDir string, source, target store.Config, asJSON bool) error {
	release, err := holdAll(dataDir, source, target)
	if err != nil {
		return err
	}
	defer release()
	from, err := store.Open(c.Context(), source)
	if err != nil {
		return err
	}
	defer func() { _ = from.Close() }() // it was read from
	to, err := store.Open(c.Context(), target)
	if err != nil {
		return err
	}
	done, err := sqldb.Copy(c.Context(), from.DB, to.DB)
	if err := errors.Join(err, to.Close()); err != nil {
		return err
	}
	if asJSON {
		return printJSON(c.OutOrStdout(), copied{From: from.String(), To: to.String(), Tables: done})
	}
	t := newTable(c.OutOrStdout(), "TABLE", "ROWS")
	for _, d := range done {
		t.row(d.Table, strconv.FormatInt(d.Rows, 10))
	}
	if err := t.flush(); err != nil {
		return err
	}
	_, err = printf(c, "\ncopied %s to %s and compared every row\n", from, to)
	return err
}

// holdAll keeps proxies away from the data folder and from the folders of SQLite
// files.
func holdAll(dataDir string, databases ...store.Config) (release func(), err error) {
	dirs := []string{dataDir}
	for _, d := range databases {
		if d.URL == "" {
			dirs = append(dirs, filepath.Dir(d.Path))
		}
	}
	var held []func()
	release = func() {
		for _, r := range held {
			r()
		}
	}
	seen := map[string]bool{}
	for _, dir := range dirs {
		if actual, err := filepath.EvalSymlinks(dir); err == nil { // else it is not there
			dir = actual
		}
		if dir, err = filepath.Abs(dir); err == nil && !seen[dir] {
			var r func()
			if r, err = proxy.HoldDataDir(dir); err == nil {
				seen[dir] = true
				held = append(held, r)
			}
		}
		if err != nil {
			release()
			return nil, err
		}
	}
	return release, nil
}
