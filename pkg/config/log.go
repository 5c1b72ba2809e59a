package config

import (
	"fmt"
	"io"
	"log/slog"
)

// NewLogger returns the logger of a command. level is debug, info, warn or error, and
// format is text or json.
func NewLogger(w io.Writer, level, format string) (*slog.Logger, error) {
	least, err := parseLevel(level)
	if err != nil {
		return nil, fmt.Errorf("log-level: %w", err)
	}
	if err := checkFormat(format); err != nil {
		return nil, fmt.Errorf("log-format: %w", err)
	}
	options := &slog.HandlerOptions{Level: least}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, options)), nil
	}
	return slog.New(slog.NewTextHandler(w, options)), nil
}

func parseLevel(level string) (slog.Level, error) {
	switch level {
	case "debug":
		return slog.LevelDebug, nil
	case "info":
		return slog.LevelInfo, nil
	case "warn":
		return slog.LevelWarn, nil
	case "error":
		return slog.LevelError, nil
	}
	return 0, fmt.Errorf("unknown level %q; write debug, info, warn or error", level)
}

func checkFormat(format string) error {
	if format != "text" && format != "json" {
		return fmt.Errorf("unknown format %q; write text or json", format)
	}
	return nil
}
