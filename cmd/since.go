package cmd

import (
	"fmt"
	"time"
)

// parseSince reads a time in the past: a span before now, a date, or a date and time as
// our tables show them. Without a zone it is in UTC.
func parseSince(text string, now time.Time) (time.Time, error) {
	if span, err := parseDays(text); err == nil && span > 0 {
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
