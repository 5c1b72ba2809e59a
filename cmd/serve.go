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
		RunE: func(c *cobra.Command, _ []string) error { return serve(c, configFile(file)) },
	}
	bindServe(c.Flags())
	configFlag(c.Flags(), &file)
	return c
}

const serveLong = `serve answers the CA's challenges, offers the API to clients on port 443 and
keeps certificates fresh. It orders nothing until it is asked to.

Without any flag it starts and says what it needs. What most want:

  acmeproxy serve --hostname acmeproxy.example.com --email ops@example.com --accept-tos

Each flag can also be set in the environment, --http-addr as ACMEPROXY_HTTP_ADDR,
and as a key of the configuration file, http-addr: :80. A flag beats the
environment, which beats the file, which beats the default.

Names are proven by HTTP-01 on port 80. --challenge chooses TLS-ALPN-01 on the
API's port or DNS-01 instead; wildcards always take DNS-01, which needs a
--dns-provider. Its own settings and secrets are environment variables, named as
by lego:

%s
What is missing is said at start. Hooks inherit the environment without these,
without ACMEPROXY_… and without PGPASSWORD, PGPASSFILE, PGSERVICEFILE and
PGSSLPASSWORD.

Everything is kept in SQLite in the data folder, or with --store in PostgreSQL,
version 12 or newer, in a database that exists. A password is best kept out of the
command line, where every user of this host can read it: put it into a file that
PGPASSFILE names (host:port:database:user:password, mode 0600), or the whole URL
into ACMEPROXY_STORE or the configuration file. To a server on another host the
connection is encrypted and its certificate checked against the system's roots or
sslrootcert=FILE in the URL, unless its sslmode says otherwise. If the server is
not there, serve waits for it for a minute.

LEGO_CA_CERTIFICATES lists PEM files of further roots to trust for the CA's own
API, separated by colons.

SIGTERM and Ctrl-C stop it: issuances in flight may finish, at most 20 seconds;
a second signal ends it at once.`

// providerVariables lists the DNS providers and how the names of their environment
// variables start, one a line.
func providerVariables() string {
	var lines strings.Builder
	for _, p := range dnsprovider.All() {
		fmt.Fprintf(&lines, "  %-9s %s…\n", p.Name, p.Prefixes[0])
	}
	return lines.String()
}

// serve runs the proxy until the context ends.
func serve(c *cobra.Command, file string) error {
	cfg, err := config.Load(c.Flags(), file, bindServe)
	if err != nil {
		return usageError{err}
	}
	if err := cfg.Validate(); err != nil {
		return usageError{err}
	}
	logger, err := config.NewLogger(c.ErrOrStderr(), cfg.LogLevel, cfg.LogFormat)
	if err != nil {
		return usageError{err}
	}
	if u, err := dsn.Parse(cfg.Store); err == nil && u.Secret && c.Flags().Changed("store") {
		logger.Warn("every user of this host can read the password in --store; keep it in the file that PGPASSFILE names, or the URL in ACMEPROXY_STORE")
	}
	collectLess()
	p, err := proxy.New(c.Context(), proxy.Config{Serve: *cfg, Version: programVersion(), Logger: logger, Getenv: os.Getenv, Known: allowMemory})
	if err != nil && c.Context().Err() != nil { // asked to stop while it waited for the database
		logger.Info("stopped")
		return nil //nolint:nilerr // a stop is no failure
	}
	if err != nil {
		return err
	}
	return p.Run(c.Context())
}

// bindServe returns the proxy's settings with their defaults and binds them to fs.
func bindServe(fs *pflag.FlagSet) *config.Serve {
	defaults := config.DefaultServe()
	cfg := &defaults
	fs.StringVar(&cfg.HTTPAddr, "http-addr", cfg.HTTPAddr, "`address` at which HTTP-01 challenges are answered; none: port 80 is somebody else's")
	fs.StringVar(&cfg.HTTPFallback, "http-fallback", cfg.HTTPFallback, "`answer` of port 80 to everything that is not a challenge: 404, redirect (to https://), or the address of a web server to pass it to, such as http://127.0.0.1:8080")
	fs.StringVar(&cfg.HTTPSAddr, "https-addr", cfg.HTTPSAddr, "`address` at which clients reach the API (TLS 1.3)")
	dataDirFlag(fs, &cfg.DataDir)
	storeFlag(fs, &cfg.Store)
	fs.StringVar(&cfg.Hostname, "hostname", cfg.Hostname, "public `name` of this host; the API's certificate is obtained for it")
	fs.StringVar(&cfg.ACMEDirectoryURL, "acme-directory-url", cfg.ACMEDirectoryURL, "`URL` of the CA's ACME directory")
	fs.StringVar(&cfg.Email, "email", cfg.Email, "contact `address` of the CA account (optional)")
	fs.BoolVar(&cfg.AcceptTOS, "accept-tos", cfg.AcceptTOS, "you have read and accept the CA's terms of service")
	fs.StringVar(&cfg.EABKid, "eab-kid", cfg.EABKid, "key `identifier` of an external account binding, if the CA gave you one")
	fs.StringVar(&cfg.EABHMACKeyFile, "eab-hmac-key-file", cfg.EABHMACKeyFile, "`file` with that binding's HMAC key (base64 or base64url)")
	fs.StringVar(&cfg.Challenge, "challenge", cfg.Challenge, "`type` of challenge by which names are proven: http-01, tls-alpn-01 (CA to --https-addr), dns-01; wildcards always take dns-01")
	fs.StringVar(&cfg.HTTP01Webroot, "http-01-webroot", cfg.HTTP01Webroot, "answer HTTP-01 by files in this `folder`, which a web server on port 80 serves, instead of at --http-addr")
	fs.StringVar(&cfg.HTTP01Hook, "http-01-hook", cfg.HTTP01Hook, "shell `command` that publishes HTTP-01 answers elsewhere, and removes them; works with certbot's manual hooks")
	fs.StringVar(&cfg.DNSProvider, "dns-provider", cfg.DNSProvider, "`name` of what publishes DNS-01 records: "+strings.Join(dnsprovider.Names(), ", ")+"; settings in the environment, see above")
	fs.StringArrayVar(&cfg.DNSResolvers, "dns-resolver", cfg.DNSResolvers, "DNS `server` that finds zones and CNAMEs for DNS-01 in place of the system's; may be repeated")
	fs.StringVar(&cfg.DNSPropagation, "dns-propagation", cfg.DNSPropagation, "`whom` to ask whether a DNS-01 record is there before the CA looks: nameservers (all of the zone), resolvers, none")
	fs.StringVar(&cfg.PreferredChain, "preferred-chain", cfg.PreferredChain, "choose the CA's chain whose topmost issuer has this common `name`, if there is one")
	fs.StringArrayVar(&cfg.Domains, "domain", cfg.Domains, "keep a certificate with these `names` for this host itself; commas join the names of one certificate, more certificates take more flags")
	fs.StringVar(&cfg.KeyType, "key-type", cfg.KeyType, "`type` of the keys of this host's certificates: ec256, ec384, rsa2048, rsa4096, rsa8192")
	fs.StringVar(&cfg.Profile, "profile", cfg.Profile, "the CA's `profile` for this host's certificates, such as shortlived (default the CA's)")
	fs.StringVar(&cfg.CertificateObtainedHook, "certificate-obtained-hook", cfg.CertificateObtainedHook, "shell `command` to run after one of this host's certificates was obtained or renewed")
	fs.StringVar(&cfg.CertDir, "cert-dir", cfg.CertDir, "`folder` for the folders of this host's certificates; default certs in the data directory, which no other user can enter")
	layoutFlags(fs, &cfg.Files)
	fs.IntVar(&cfg.MaxClientCertificates, "max-client-certificates", cfg.MaxClientCertificates, "`number` of managed certificates that one client may have; one that has more already keeps them; 0: any number")
	fs.Var((*config.QuotaValue)(&cfg.DefaultDailyQuota), "default-daily-quota", "`number` of requests a day (UTC) of a client whose grant has no quota; 0: any number; auto: 300 if the database was created by this version or a later one, else any number; renewals by the proxy never count")
	logFlags(fs, &cfg.LogLevel, &cfg.LogFormat)
	return cfg
}

// layoutFlags binds what is written besides the PEM files, and for whom.
func layoutFlags(fs *pflag.FlagSet, l *certfile.Layout) {
	fs.StringSliceVar(&l.Formats, "format", l.Formats, "`formats` to write besides certbot's PEM files: haproxy (haproxy.pem, full chain and key), pkcs12 (bundle.p12); commas join several")
	fs.StringVar(&l.PKCS12PasswordFile, "pkcs12-password-file", l.PKCS12PasswordFile, "`file` whose first line is the password of bundle.p12")
	fs.StringVar(&l.Owner, "owner", l.Owner, "`user` who owns the files, or user:group, or :group")
	fs.StringVar(&l.KeyMode, "key-mode", l.KeyMode, "octal `mode` of the files that hold the key, such as 0640 (default 0600)")
}

// logFlags binds what both daemons say, and how.
func logFlags(fs *pflag.FlagSet, level, format *string) {
	defaults := config.DefaultServe()
	fs.StringVar(level, "log-level", defaults.LogLevel, "least `level` to log: debug, info, warn or error")
	fs.StringVar(format, "log-format", defaults.LogFormat, "`format` of the log: text or json")
}

func dataDirFlag(fs *pflag.FlagSet, dir *string) {
	fs.StringVar(dir, "data-dir", *dir, "`folder` of the proxy's database, keys and certificates")
}

func storeFlag(fs *pflag.FlagSet, store *string) {
	fs.StringVar(store, "store", *store, "`URL` of a PostgreSQL database to keep everything in, postgres://user@host/database; default SQLite in the data folder")
}

func configFlag(fs *pflag.FlagSet, file *string) {
	fs.StringVar(file, "config", "", "configuration `file` of serve (YAML); default "+defaultConfigFile+" if it is there")
}

const defaultConfigFile = "/etc/acmeproxy/acmeproxy.yaml"

// configFile is the file to read; empty for none.
func configFile(given string) string {
	if given == "" {
		given = os.Getenv("ACMEPROXY_CONFIG")
	}
	if given != "" {
		return given
	}
	if _, err := os.Stat(defaultConfigFile); errors.Is(err, os.ErrNotExist) {
		return ""
	}
	return defaultConfigFile
}

// collectLess makes the garbage collector wait for more than Go's default, which
// for the megabyte that serve holds makes it run fifty times a second when port
// 80 is busy: that is a twentieth of the work. Near the limit it runs as often as
// it must, so that a flood of strangers does not take the host's memory. Go's own
// variables have the last word.
func collectLess() {
	const percent = 400
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(percent)
	}
	allowMemory(0)
}

const (
	memoryLimit   = 90 << 20 // bytes, without any known connection
	memoryOfKnown = 64 << 10 // a connection with HTTP/2 and TLS holds about 50 KiB
)

// allowMemory sets the soft memory limit for so many connections of authenticated
// clients. They hold more than the limit for strangers when there are many, and
// the collector would run without a pause.
func allowMemory(known int) {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit + int64(known)*memoryOfKnown)
	}
}
