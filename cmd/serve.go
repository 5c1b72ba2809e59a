package cmd

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/acmeproxy/acmeproxy/pkg/cert/certfile"
	"github.com/acmeproxy/acmeproxy/pkg/config"
	"github.com/acmeproxy/acmeproxy/pkg/dnsprovider"
	"github.com/acmeproxy/acmeproxy/pkg/printable"
	"github.com/acmeproxy/acmeproxy/pkg/proxy"
	"github.com/acmeproxy/acmeproxy/pkg/store/dsn"
)

func newServe() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run the proxy on the DMZ host",
		Long:  fmt.Sprintf(serveLong, providerVariables()),
		Example: `  acmeproxy serve --domain www.example.com,example.com --certificate-obtained-hook 'systemctl reload nginx' --accept-tos
  ACMEPROXY_HOSTNAME=acmeproxy.example.com acmeproxy serve --config /etc/acmeproxy/acmeproxy.yaml`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error { return serve(c, file) },
	}
	bindServe(c.Flags())
	configFlag(c.Flags(), &file)
	return c
}

const serveLong = `serve answers the CA's challenges, offers the API to clients on port 443 and
renews certificates. It orders no certificate until one is requested.

Without any flag it starts and logs which settings it needs. Typical use:

  acmeproxy serve --hostname acmeproxy.example.com --email ops@example.com --accept-tos

Each flag can also be set in the environment, --http-addr as ACMEPROXY_HTTP_ADDR,
and as a key of the configuration file, http-addr: :80. A flag beats the
environment, which beats the file, which beats the default.

The CA validates names by HTTP-01 on port 80. With --challenge it uses TLS-ALPN-01
on the API's port or DNS-01 instead. Wildcards always use DNS-01, which needs a
--dns-provider. Set the provider's own settings and secrets in the environment,
with the names that lego uses:

%s
serve reports missing ones at start. Hooks inherit the environment without these,
without ACMEPROXY_… and without PGPASSWORD, PGPASSFILE, PGSERVICEFILE and
PGSSLPASSWORD.

serve stores everything in SQLite in the data folder, or with --store in an
existing database of PostgreSQL 12 or newer. Do not put a password on the command
line, where every user of this host can read it. Put it into a file that
PGPASSFILE names (host:port:database:user:password, mode 0600), or put the whole
URL into ACMEPROXY_STORE or the configuration file. The connection to a server on
another host is encrypted. Its certificate is checked against the system's roots
or sslrootcert=FILE in the URL, unless the URL's sslmode says otherwise. If the
server does not answer, serve waits for it for one minute.

If the CA's own API has a certificate from a private root, set --ca-certificates to
the root's PEM file. LEGO_CA_CERTIFICATES, a list of files separated by colons, does
the same, but sudo removes it from the environment.

SIGTERM and Ctrl-C stop serve. It waits up to 20 seconds for issuances in progress.
A second signal ends it at once. SIGHUP makes serve read its configuration file again,
as acmeproxy reload does. A terminal that is closed sends SIGHUP, too, so this does
not end serve.`

// providerVariables returns the DNS providers with the prefixes of their environment
// variables, one a line.
func providerVariables() string {
	var lines strings.Builder
	for _, p := range dnsprovider.All() {
		printable.Fprintf(&lines, "  %-9s %s…\n", p.Name, p.Prefixes[0])
	}
	return lines.String()
}

// serve runs the proxy until the context is done. file is the flag --config.
func serve(c *cobra.Command, file string) error {
	hangup, stop := notifyHangup()
	defer stop()
	source := &settingsSource[config.Serve]{flags: c.Flags(), file: func() string { return configFile(file) }, bind: bindServe}
	cfg, err := source.read()
	if err != nil {
		return usageError{err}
	}
	if err := cfg.Validate(); err != nil {
		return usageError{err}
	}
	logger, level, err := config.NewLogger(c.ErrOrStderr(), cfg.LogLevel, cfg.LogFormat)
	if err != nil {
		return usageError{err}
	}
	logOrigin(c, logger, cfg.Origin)
	source.warnRisk(logger)
	logger = withRemedies(logger, func(err error, names string) string { return checkRemedy(err, "acmeproxy check", names) })
	if u, err := dsn.Parse(cfg.Store); err == nil && u.Secret && c.Flags().Changed("store") {
		logger.Warn("every user of this host can read the password in --store; keep it in the file that PGPASSFILE names, or the URL in ACMEPROXY_STORE")
	}
	tuneCollector()
	p, err := proxy.New(c.Context(), proxy.Config{
		Serve: *cfg, Version: programVersion(), Logger: logger, LogLevel: level, Getenv: os.Getenv, Environ: os.Environ(),
		Known: allowMemory, Reread: func() (*config.Serve, error) {
			defer source.warnRisk(logger)
			return source.read()
		}, Hangup: hangup,
	})
	if err != nil && c.Context().Err() != nil { // interrupted while waiting for the database
		logger.Info("stopped")
		return nil
	}
	if errors.As(err, new(*proxy.SettingsError)) {
		return cfg.Locate(err)
	}
	if err != nil {
		return err
	}
	return p.Run(c.Context())
}

// bindServe returns the proxy's settings with their defaults and binds them to fs.
func bindServe(fs *pflag.FlagSet) *config.Serve {
	defaults := config.DefaultServe()
	defaults.DataDir = defaultDataDir(os.Geteuid(), os.Getenv)
	cfg := &defaults
	fs.StringVar(&cfg.HTTPAddr, "http-addr", cfg.HTTPAddr, "`address` at which HTTP-01 challenges are answered; none to leave port 80 to another program")
	fs.StringVar(&cfg.HTTPFallback, "http-fallback", cfg.HTTPFallback, "`answer` of port 80 to all other requests: 404, redirect (to https://), or the address of a web server to pass them to, such as http://127.0.0.1:8080")
	fs.StringVar(&cfg.HTTPSAddr, "https-addr", cfg.HTTPSAddr, "`address` at which clients reach the API (TLS 1.3) and the ACME door (TLS 1.2 or later)")
	dataDirFlag(fs, &cfg.DataDir)
	storeFlag(fs, &cfg.Store)
	fs.StringVar(&cfg.Hostname, "hostname", cfg.Hostname, "public `name` of this host; the API's certificate is obtained for it")
	fs.StringVar(&cfg.PublicURL, "public-url", cfg.PublicURL, "`URL` at which clients reach the API, https://HOST[:PORT], for enrolment tokens and the ACME door (default --hostname with the port of --https-addr)")
	fs.StringVar(&cfg.ACMEDirectoryURL, "acme-directory-url", cfg.ACMEDirectoryURL, "`URL` of the CA's ACME directory")
	fs.StringArrayVar(&cfg.CACertificates, "ca-certificates", cfg.CACertificates, "PEM `file` with roots to trust for the CA's own API, in addition to the system's; may be repeated")
	fs.StringVar(&cfg.Email, "email", cfg.Email, "contact `address` of the CA account (optional)")
	fs.BoolVar(&cfg.AcceptTOS, "accept-tos", cfg.AcceptTOS, "you have read and accept the CA's terms of service")
	fs.StringVar(&cfg.EABKid, "eab-kid", cfg.EABKid, "key `identifier` of an external account binding, if the CA gave you one")
	fs.StringVar(&cfg.EABHMACKeyFile, "eab-hmac-key-file", cfg.EABHMACKeyFile, "`file` with that binding's HMAC key (base64 or base64url)")
	fs.StringVar(&cfg.Challenge, "challenge", cfg.Challenge, "`type` of challenge that validates names: http-01, tls-alpn-01 (CA to --https-addr), dns-01; wildcards always use dns-01")
	fs.StringVar(&cfg.HTTP01Webroot, "http-01-webroot", cfg.HTTP01Webroot, "answer HTTP-01 with files in this `folder`, which a web server on port 80 serves, instead of at --http-addr")
	fs.StringVar(&cfg.HTTP01Hook, "http-01-hook", cfg.HTTP01Hook, "shell `command` that publishes HTTP-01 answers elsewhere, and removes them; works with certbot's manual hooks")
	fs.StringVar(&cfg.DNSProvider, "dns-provider", cfg.DNSProvider, "`name` of the provider that publishes DNS-01 records: "+strings.Join(dnsprovider.Names(), ", ")+"; settings in the environment, see above")
	fs.StringArrayVar(&cfg.DNSResolvers, "dns-resolver", cfg.DNSResolvers, "DNS `server` that finds zones and CNAMEs for DNS-01 instead of the system's; may be repeated")
	fs.StringVar(&cfg.DNSPropagation, "dns-propagation", cfg.DNSPropagation, "`servers` that must have a DNS-01 record before the CA checks it: nameservers (all of the zone), resolvers, none")
	fs.StringArrayVar(&cfg.CheckResolvers, "check-resolver", cfg.CheckResolvers, "DNS `server` that is asked when clients or serve itself check names, instead of the system's; may be repeated")
	fs.IntVar(&cfg.CheckHTTPPort, "check-http-port", cfg.CheckHTTPPort, "port to check; CAs use 80 only")
	if err := fs.MarkHidden("check-http-port"); err != nil { // only tests use it
		panic(err)
	}
	fs.StringVar(&cfg.PreferredChain, "preferred-chain", cfg.PreferredChain, "choose the CA's chain whose topmost issuer has this common `name`, if there is one")
	fs.StringArrayVar(&cfg.Domains, "domain", cfg.Domains, "obtain and renew a certificate with these `names` for this host itself; commas join the names of one certificate; repeat for more certificates; the first name, or one of your choice as in lb=www.example.com, names its folder")
	fs.StringVar(&cfg.KeyType, "key-type", cfg.KeyType, "`type` of the keys of this host's certificates: ec256, ec384, rsa2048, rsa4096, rsa8192")
	fs.StringVar(&cfg.Profile, "profile", cfg.Profile, "the CA's `profile` for this host's certificates, such as shortlived (default the CA's)")
	fs.StringVar(&cfg.CertificateObtainedHook, "certificate-obtained-hook", cfg.CertificateObtainedHook, "shell `command` to run after a certificate of this host was obtained or renewed")
	fs.StringVar(&cfg.CertDir, "cert-dir", cfg.CertDir, "`folder` for the folders of this host's certificates; default certs in the data directory, which no other user can enter")
	layoutFlags(fs, &cfg.Files)
	fs.IntVar(&cfg.MaxClientCertificates, "max-client-certificates", cfg.MaxClientCertificates, "maximum `number` of managed certificates of one client, 0 for no limit; a client that already has more keeps them")
	fs.Var((*config.QuotaValue)(&cfg.DefaultDailyQuota), "default-daily-quota", "`number` of requests a day (UTC) of a client whose grant has no quota; 0 for no limit; auto for 300 if this version or a later one created the database, else no limit; renewals by the proxy do not count")
	fs.StringVar(&cfg.SignConfig, "sign-config", cfg.SignConfig, "configuration `file` of ACMEMS (INI): sign the CSRs of scripts with openssl and wget, at its listeners and by its rules")
	logFlags(fs, &cfg.LogLevel, &cfg.LogFormat)
	return cfg
}

// layoutFlags binds the formats, the owner and the mode of certificate files.
func layoutFlags(fs *pflag.FlagSet, l *certfile.Layout) {
	fs.StringSliceVar(&l.Formats, "format", l.Formats, "`formats` to write in addition to certbot's PEM files: haproxy (haproxy.pem, full chain and key), pkcs12 (bundle.p12); commas join several")
	fs.StringVar(&l.PKCS12PasswordFile, "pkcs12-password-file", l.PKCS12PasswordFile, "`file` whose first line is the password of bundle.p12")
	fs.StringVar(&l.Owner, "owner", l.Owner, "`user` who owns the files, or user:group, or :group")
	fs.StringVar(&l.KeyMode, "key-mode", l.KeyMode, "octal `mode` of the files that hold the key, such as 0640 (default 0600)")
}

// logFlags binds the log's level and format, for both daemons.
func logFlags(fs *pflag.FlagSet, level, format *string) {
	defaults := config.DefaultServe()
	fs.StringVar(level, "log-level", defaults.LogLevel, "minimum `level` to log: debug, info, warn or error")
	fs.StringVar(format, "log-format", defaults.LogFormat, "`format` of the log: text or json")
}

func dataDirFlag(fs *pflag.FlagSet, dir *string) {
	fs.StringVar(dir, "data-dir", *dir, "`folder` of the proxy's database, keys and certificates")
}

func storeFlag(fs *pflag.FlagSet, store *string) {
	fs.StringVar(store, "store", *store, "`URL` of a PostgreSQL database to store everything in, postgres://user@host/database; default SQLite in the data folder")
}

func configFlag(fs *pflag.FlagSet, file *string) {
	fs.StringVar(file, "config", "", "configuration `file` of serve (YAML); default "+defaultFile("acmeproxy.yaml")+" if it is there")
}

// configFile returns the file to read, or an empty string.
func configFile(given string) string {
	if given == "" {
		given = os.Getenv("ACMEPROXY_CONFIG")
	}
	if given != "" {
		return given
	}
	file := defaultFile("acmeproxy.yaml")
	if _, err := os.Stat(file); errors.Is(err, os.ErrNotExist) {
		return ""
	}
	return file
}

// tuneCollector makes the garbage collector run less often than by default. serve
// holds about a megabyte, so by default the collector runs fifty times a second when
// port 80 is busy, which takes 5 % of the CPU time. Near the memory limit it still
// runs often, so that a flood of anonymous requests does not exhaust the host's
// memory. GOGC and GOMEMLIMIT override this.
func tuneCollector() {
	const percent = 400
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(percent)
	}
	allowMemory(0)
}

const (
	memoryLimit   = 90 << 20 // bytes, without authenticated connections
	memoryOfKnown = 64 << 10 // a connection with HTTP/2 and TLS holds about 50 KiB
)

// allowMemory sets the soft memory limit for so many connections of authenticated
// clients. Many of them hold more memory than memoryLimit, and without a higher limit
// the collector would run continuously.
func allowMemory(known int) {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit + int64(known)*memoryOfKnown)
	}
}
