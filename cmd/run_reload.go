package cmd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/acmeproxy/acmeproxy/pkg/config"
	"github.com/acmeproxy/acmeproxy/pkg/remote"
)

// runReload gives a running daemon the settings of its changed configuration file.
type runReload struct {
	source              *settingsSource[runSettings]
	stateDir, logFormat string // need a restart
	level               *slog.LevelVar
	logger              *slog.Logger
	changes             chan remote.Change
}

// onHangup reads the file again for each signal until ctx ends. A signal that arrives
// meanwhile starts another round. The daemon logs that it has reloaded.
func (r *runReload) onHangup(ctx context.Context, hangup <-chan os.Signal) {
	for {
		select {
		case <-hangup:
		case <-ctx.Done():
			return
		}
		change, level, err := r.read()
		if err != nil {
			r.logger.Error("reload refused", "error", err)
			continue
		}
		r.source.warnRisk(r.logger)
		select {
		case r.changes <- change:
			r.level.Set(level)
		case <-ctx.Done():
			return
		}
	}
}

// read returns the new settings. On an error the earlier ones stay in force.
func (r *runReload) read() (change remote.Change, level slog.Level, err error) {
	f, err := r.source.read()
	if err != nil {
		return change, level, err
	}
	level, err = config.ParseLevel(f.logLevel)
	for _, setting := range []struct{ key, before, now string }{
		{"state-dir", r.stateDir, f.stateDir}, {"log-format", r.logFormat, f.logFormat},
	} {
		if setting.before != setting.now {
			err = errors.Join(err, fmt.Errorf("%s: a change needs a restart; restart the daemon, or set the earlier value again", setting.key))
		}
	}
	list, invalid := configured(r.source.file(), f.unique(r.logger))
	return remote.Change{Wanted: list, Poll: f.poll}, level, f.Locate(errors.Join(err, invalid))
}
