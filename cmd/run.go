package cmd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/acmeproxy/acmeproxy/pkg/config"
	"github.com/acmeproxy/acmeproxy/pkg/localfile"
	"github.com/acmeproxy/acmeproxy/pkg/remote"
)

func newRun() *cobra.Command {
	c := &cobra.Command{
		Use:   "run",
		Short: "Renew this host's certificates (daemon)",
		Long: `run maintains every certificate of an earlier get or of the configuration file. It
asks the proxy for a new bundle at each poll (agent) or renews the certificate
when it is due (gateway), and writes its files. It runs a certificate's hook once
for each change. A failure of one certificate does not delay others.
A start, and a reload, try failing certificates and hooks at once, unless the CA or
the proxy asked to wait.

SIGHUP makes run read the configuration file again: certificates, poll, log-level. If
the file has a fault, nothing changes, and the log has the reason. A change of
state-dir or log-format needs a restart. A terminal that is closed sends SIGHUP,
too, so this does not end run; SIGTERM and Ctrl-C do.

The configuration file can hold the flags below, and certificates:

  certificates:
    - names: [web1.example.com, www.web1.example.com]
      mode: agent
      out: /etc/ssl/www.web1
      hook: systemctl reload nginx`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error { return run(c) },
	}
	bindRun(c.Flags())
	return c
}

// runSettings holds the daemon's settings. Its configuration file can set them.
type runSettings struct {
	remoteFlags
	config.Origin
	poll                time.Duration
	logLevel, logFormat string

	Certificates config.RemoteCertificates `yaml:"certificates"`
}

// bindRun returns the daemon's settings with their defaults and binds them to fs.
func bindRun(fs *pflag.FlagSet) *runSettings {
	f := &runSettings{}
	f.bind(fs)
	fs.DurationVar(&f.poll, "poll", 15*time.Minute, "interval between requests for new bundles, with some jitter")
	logFlags(fs, &f.logLevel, &f.logFormat)
	return f
}

func run(c *cobra.Command) error {
	hangup, stop := notifyHangup()
	defer stop()
	given, err := c.Flags().GetString("config")
	if err != nil {
		return err
	}
	source := &settingsSource[runSettings]{flags: c.Flags(), file: func() string { return remoteConfigFile(given) }, bind: bindRun}
	f, err := source.read()
	if err != nil {
		return usageError{err}
	}
	logger, level, err := config.NewLogger(c.ErrOrStderr(), f.logLevel, f.logFormat)
	if err != nil {
		return usageError{f.Locate(err)}
	}
	logOrigin(c, logger, f.Origin)
	source.warnRisk(logger)
	logger = withRemedies(logger, func(err error, names string) string {
		if remote.IsUnreachable(err) {
			return "" // the daemon retries, and would repeat it every few seconds
		}
		if errors.As(err, new(*remote.HookError)) {
			return "correct the hook; it runs again at the next attempt, and at once after a reload"
		}
		return remoteRemedy(err, f.stateDir, names)
	})
	s, err := openState(f.stateDir)
	if err != nil {
		return err
	}
	list, err := configured(source.file(), f.unique(logger))
	if err != nil {
		return err
	}
	if risk := localfile.Risk(f.stateDir); risk != "" {
		logger.Warn("the state directory is not safe", "risk", risk)
	}
	logger.Info("keeping certificates fresh", "proxy", s.URL(), "client", s.Client(), "poll", f.poll.String())
	r := runReload{source: source, stateDir: f.stateDir, logFormat: f.logFormat, level: level, logger: logger, changes: make(chan remote.Change)}
	ctx, cancel := context.WithCancel(c.Context())
	defer cancel()
	go r.onHangup(ctx, hangup) // a file that cannot be read must not delay the end
	return remote.Run(ctx, remote.RunConfig{State: s, Wanted: list, Poll: f.poll, Logger: logger, Changes: r.changes})
}

func remoteConfigFile(given string) string {
	if given == "" {
		given = os.Getenv("ACMEPROXY_CONFIG")
	}
	if given != "" {
		return given
	}
	file := defaultFile("remote.yaml")
	if !isUsable(file) {
		return ""
	}
	return file
}

// unique returns the certificates of the file. It logs and omits those that repeat an
// earlier one.
func (f *runSettings) unique(logger *slog.Logger) config.RemoteCertificates {
	list, repeated := f.Certificates.Unique()
	for _, r := range repeated {
		key := fmt.Sprintf("%s[%d]", config.CertificatesKey, r.Index)
		logger.Warn("an entry repeats an earlier one; remove one of the two", "entry", key, "file", f.Places[key],
			"names", f.Certificates[r.Index].Names.String(), "earlier", f.Places[fmt.Sprintf("%s[%d]", config.CertificatesKey, r.Earlier)])
	}
	return list
}

// configured returns the certificates of a configuration file.
func configured(file string, list config.RemoteCertificates) ([]remote.Wanted, error) {
	if abs, err := filepath.Abs(file); err == nil && file != "" {
		file = abs
	}
	var all []remote.Wanted
	for _, r := range list {
		w, err := wanted(r.Names, string(r.Mode), r.Out, r.KeyType, r.Hook, r.Profile)
		if err != nil {
			return nil, err
		}
		w.Name, w.First, w.Source, w.Layout = r.Name, r.First, file, r.Files
		all = append(all, w)
	}
	return all, nil
}
