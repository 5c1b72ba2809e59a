package config

import (
	"fmt"
	"io"
	"log/slog"
)

// NewLogger returns the logger of a command and its level, which may be changed later.
// level is debug, info, warn or error, and format is text or json.
func NewLogger(w io.Writer, level, format string) (*slog.Logger, *slog.LevelVar, error) {
	least, err := ParseLevel(level)
	if err != nil {
		return nil, nil, err
	}
	if err := checkFormat(format); err != nil {
		return nil, nil, fmt.Errorf("log-format: %w", err)
	}
	current := new(slog.LevelVar)
	current.Set(least)
	options := &slog.HandlerOptions{Level: current}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, options)), current, nil
	}
	return slog.New(slog.NewTextHandler(w, options)), current, nil
}

// ParseLevel returns the level of the setting log-level.
func ParseLevel(level string) (slog.Level, error) {
	least, err := parseLevel(level)
	if err != nil {
		return least, fmt.Errorf("log-level: %w", err)
	}
	return least, nil
}

// Level returns the level of the log. Validate has checked LogLevel.
func (s *Serve) Level() slog.Level {
	level, err := parseLevel(s.LogLevel)
	if err != nil {
		return slog.LevelInfo
	}
	return level
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
