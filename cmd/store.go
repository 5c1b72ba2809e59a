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
		Short: "Migrate or copy the proxy's database",
		Args:  subcommand,
		RunE:  showHelp,
	}
	c.AddCommand(newStoreMigrate(), newStoreCopy())
	return c
}

// storeFlags holds the flags that find serve's database.
type storeFlags struct {
	dataDir, config string
	json            bool
}

func (f *storeFlags) bind(fs *pflag.FlagSet) {
	f.dataDir = defaultDataDir(os.Geteuid(), os.Getenv)
	dataDirFlag(fs, &f.dataDir)
	configFlag(fs, &f.config)
	fs.BoolVar(&f.json, "json", false, "print JSON")
}

// settings returns serve's settings, with the data folder given to this command.
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
		Long: `migrate upgrades the schema of the proxy's database to the version that this
program needs, and prints the changes. serve does the same when it starts. Use
migrate to do it ahead of time, or with another PostgreSQL user. Several instances
can run it at once: one upgrades, the others wait.

Run as root, migrate works with the rights of the user that owns the folder of the
SQLite file.

migrate first copies a SQLite file with an older schema to a file beside it, such
as acmeproxy.db.before-6, and retains the last two copies. It does not downgrade a
newer schema. Back up a PostgreSQL database before an upgrade.`,
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
		if err := becomeOwner(where.Path); err != nil {
			return err
		}
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
		printf(c, "the schema already has version %d; nothing to do\n", m.To)
		return nil
	}
	if m.Copy != "" {
		printf(c, "copied the database to %s first\n", m.Copy)
	}
	for _, name := range m.Applied {
		printf(c, "applied %s\n", name)
	}
	if m.From == 0 {
		printf(c, "created the schema with version %d in an empty database\n", m.To)
		return nil
	}
	printf(c, "upgraded the schema from version %d to %d\n", m.From, m.To)
	return nil
}

func newStoreCopy() *cobra.Command {
	var flags storeFlags
	var from, to string
	c := &cobra.Command{
		Use:   "copy",
		Short: "Copy the database into another, empty one",
		Long: `copy copies all of the proxy's data from one database to another, such as from
SQLite to PostgreSQL. It uses one transaction, so the target gets all of the data
or none. It reads back every row and compares it. The target must be empty. The
source does not change. A database is a PostgreSQL URL or the path of a SQLite
file.

Run as root, copy works with the rights of the user that owns the folder of the
SQLite file, so that user must be able to read or write the other file, too.

First stop acmeproxy serve on every host that uses either database. copy refuses
to run beside it. Keep the data folder, because identity.age in it opens the
sealed data in both databases.

Do not put a password on the command line. Without --to, the target is serve's
store, which you can set in ACMEPROXY_STORE or the configuration file.`,
		Example: `  acmeproxy store copy --to postgres://acmeproxy@db.example.com/acmeproxy
  acmeproxy store copy --from postgres://acmeproxy@db.example.com/acmeproxy --to /var/lib/acmeproxy/acmeproxy.db`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := flags.settings(c)
			if err != nil {
				return err
			}
			source, target := proxy.StoreAt(from), proxy.StoreAt(to)
			if from == "" {
				source = proxy.StoreConfig(config.Serve{DataDir: cfg.DataDir})
			}
			if to == "" {
				if cfg.Store == "" {
					return usage("--to: missing; use it to name the target database, such as %s", dsn.Example)
				}
				target = proxy.StoreConfig(cfg)
			}
			if err := checkDatabases(source, target); err != nil {
				return usageError{err}
			}
			return copyStore(c, cfg.DataDir, source, target, flags.json)
		},
	}
	flags.bind(c.Flags())
	c.Flags().StringVar(&from, "from", "", "`database` to copy; default the SQLite file in the data folder")
	c.Flags().StringVar(&to, "to", "", "empty `database` to copy to; default serve's --store")
	return c
}

func checkDatabases(source, target store.Config) error {
	var faults []error
	for _, d := range []struct{ flag, url string }{{"from", source.URL}, {"to", target.URL}} {
		if _, err := dsn.Parse(d.url); d.url != "" && err != nil {
			faults = append(faults, fmt.Errorf("--%s: %w", d.flag, err))
		}
	}
	if source.URL == target.URL && source.Path == target.Path {
		faults = append(faults, errors.New("--from and --to are the same database; use another for one of them"))
	}
	if source.URL == "" {
		if _, err := os.Stat(source.Path); err != nil {
			faults = append(faults, fmt.Errorf("--from: %w; use it to name the database to copy", err))
		}
	}
	return errors.Join(faults...)
}

// copied holds the output of copy.
type copied struct {
	From   string         `json:"from"`
	To     string         `json:"to"`
	Tables []sqldb.Copied `json:"tables"`
}

func copyStore(c *cobra.Command, dataDir string, source, target store.Config, asJSON bool) error {
	if err := becomeOwner(paths(source, target)...); err != nil {
		return err
	}
	release, err := holdAll(dataDir, source, target)
	if err != nil {
		return err
	}
	defer release()
	from, err := store.Open(c.Context(), source)
	if err != nil {
		return err
	}
	defer func() { _ = from.Close() }() // only read from
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

// paths returns the paths of SQLite files.
func paths(databases ...store.Config) (all []string) {
	for _, d := range databases {
		if d.URL == "" {
			all = append(all, d.Path)
		}
	}
	return all
}

// holdAll locks the data folder and the folders of SQLite files, so that no proxy
// uses them.
func holdAll(dataDir string, databases ...store.Config) (release func(), err error) {
	dirs := []string{dataDir}
	for _, path := range paths(databases...) {
		dirs = append(dirs, filepath.Dir(path))
	}
	var held []func()
	release = func() {
		for _, r := range held {
			r()
		}
	}
	seen := map[string]bool{}
	for _, dir := range dirs {
		if actual, err := filepath.EvalSymlinks(dir); err == nil { // otherwise it does not exist
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
