package cmd

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// longestSpan limits times that a user writes, so that no sum overflows.
const longestSpan = 100 * 365 * 24 * time.Hour

// parseSpan reads a positive span of time: days as 7d, weeks as 2w, or a duration of Go
// such as 2h30m.
func parseSpan(text string) (time.Duration, error) {
	span, err := time.ParseDuration(text)
	for suffix, unit := range map[string]time.Duration{"d": 24 * time.Hour, "w": 7 * 24 * time.Hour} {
		if number, ok := strings.CutSuffix(text, suffix); ok {
			var n uint64
			n, err = strconv.ParseUint(number, 10, 16)
			span = min(time.Duration(n)*unit, longestSpan+1)
		}
	}
	if err != nil || span <= 0 || span > longestSpan {
		return 0, fmt.Errorf("%q is not a span of time; write one such as 2h, 7d or 4w", text)
	}
	return span, nil
}

// parseSince reads a time in the past: a span before now, a date, or a date and time as
// our tables show them. Without a zone it is in UTC.
func parseSince(text string, now time.Time) (time.Time, error) {
	if span, err := parseSpan(text); err == nil {
		return now.Add(-span), nil
	}
	for _, layout := range []string{time.DateOnly, "2006-01-02 15:04", "2006-01-02 15:04 UTC", "2006-01-02 15:04:05 UTC", time.DateTime, "2006-01-02T15:04", time.RFC3339} {
		t, err := time.Parse(layout, text)
		if err != nil {
			continue
		}
		if t.After(now) {
			return t, fmt.Errorf("%s is in the future; use a time in the past", text)
		}
		return t, nil
	}
	return time.Time{}, fmt.Errorf("%q is not a time; write one such as 2h, 7d, 2026-01-31 or \"2026-01-31 15:04\" (UTC)", text)
}
