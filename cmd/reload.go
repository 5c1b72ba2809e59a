package cmd

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/config"
	"github.com/acmeproxy/acmeproxy/pkg/localfile"
)

const reloadLong = `reload makes a running acmeproxy serve read its configuration file again, and the
files that settings name, such as the CA's HMAC key. It waits until the new settings
are in force and prints which ones have changed. Issuances in progress finish with
the earlier settings. Certificates that failed are tried again at once.

If the file has a fault, nothing changes. reload prints all faults, as serve does at
start, and exits with 1. The same happens if the file changes a setting that needs a
restart: %s.

The file is the one that serve was started with. --config only says where this
command finds serve's data directory.

Flags of serve's command line stay as given, and the environment is not read again.
SIGHUP has the same effect as reload, but its outcome is only in serve's log.`

func newReload() *cobra.Command {
	var flags adminFlags
	c := &cobra.Command{
		Use:   "reload",
		Short: "Make a running proxy read its configuration again",
		Long:  fmt.Sprintf(reloadLong, lines(config.NeedRestart())),
		Example: `  acmeproxy reload
  systemctl reload acmeproxy`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error { return reload(c, &flags) },
	}
	flags.bind(c.Flags())
	return c
}

// lines joins words by commas, with line breaks for a help text.
func lines(words []string) string {
	var b strings.Builder
	for i, word := range words {
		switch {
		case i > 0 && i%5 == 0:
			b.WriteString(",\n")
		case i > 0:
			b.WriteString(", ")
		}
		b.WriteString(word)
	}
	return b.String()
}

func reload(c *cobra.Command, flags *adminFlags) error {
	if c.Flags().Changed("config") {
		if _, err := os.Stat(flags.config); errors.Is(err, os.ErrNotExist) {
			return usage("config: %v; name the file that serve reads, or leave the flag out", err)
		}
	}
	a, invalid := flags.dialDespite(c)
	done, err := a.Reload(c.Context())
	var refused *api.Problem
	switch {
	case err == nil:
	case errors.As(err, &refused) && refused.Status == 409: // with all faults, one a line
		return errors.New(refused.Detail + "\nnothing has changed; the earlier settings stay in force")
	case invalid != nil: // the socket's folder may be wrong, too
		return invalid
	default:
		return err
	}
	if flags.json {
		return printJSON(c.OutOrStdout(), done)
	}
	what := "no setting has changed"
	if len(done.Changed) > 0 {
		what = "changed: " + strings.Join(done.Changed, ", ")
	}
	if _, err := printf(c, "reloaded; %s\n", what); err != nil || done.File == "" {
		return err
	}
	printErrf(c, "serve read %s\n", done.File)
	return nil
}

// notifyHangup returns a channel that receives SIGHUP until stop. A signal that
// arrives while an earlier one is handled stays in the channel.
func notifyHangup() (hangup <-chan os.Signal, stop func()) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGHUP)
	return c, func() { signal.Stop(c) }
}

// settingsSource reads the settings of a daemon, at start and for each reload.
type settingsSource[T any] struct {
	flags *pflag.FlagSet // of the command line
	file  func() string  // path of the configuration file; may be empty
	bind  func(*pflag.FlagSet) *T
	used  string // file of the settings in force; may be empty
	again bool   // the settings were read before
}

// read returns the settings. The environment is that of the process, which never
// changes. A file that was used must still exist, so that a missing one does not
// silently mean the defaults.
func (s *settingsSource[T]) read() (*T, error) {
	file := s.file()
	if file == "" {
		file = s.used
	}
	if s.again && file != "" {
		if err := rereadable(file); err != nil {
			return nil, err
		}
	}
	s.again = true
	settings, err := config.Load(s.flags, os.Getenv, file, s.bind)
	if err != nil {
		return nil, err
	}
	s.used = file
	return settings, nil
}

// warnRisk warns if an untrusted user can change the configuration file, whose hooks
// this process runs.
func (s *settingsSource[T]) warnRisk(logger *slog.Logger) {
	if s.used == "" {
		return
	}
	if risk := localfile.Risk(s.used); risk != "" {
		logger.Warn("the configuration file is not safe", "file", s.used, "risk", risk)
	}
}

// rereadable returns an error for a pipe or a device, which can be the file of a start,
// but has no second content. Waiting for one would block all later reloads.
func rereadable(file string) error {
	// Reading a missing file returns the better error.
	if info, err := os.Stat(file); err == nil && !info.Mode().IsRegular() && !info.IsDir() {
		return fmt.Errorf("config: %s is not a regular file, so it cannot be read again; write the settings into a file, and restart", file)
	}
	return nil
}
