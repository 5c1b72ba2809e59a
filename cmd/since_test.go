package cmd

import (
	"testing"
	"time"
)

var since = time.Date(2026, 2, 1, 12, 0, 0, 0, time.UTC)

func TestParseSince(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"2h": "2026-02-01T10:00:00Z", "1h30m": "2026-02-01T10:30:00Z", "7d": "2026-01-25T12:00:00Z", "1d12h": "2026-01-31T00:00:00Z",
		"2026-01-31": "2026-01-31T00:00:00Z", "2026-01-31 15:04": "2026-01-31T15:04:00Z", "2026-01-31 15:04 UTC": "2026-01-31T15:04:00Z",
		"2026-01-31T15:04:05+02:00": "2026-01-31T13:04:05Z", "2026-01-31 15:04:05": "2026-01-31T15:04:05Z",
		"": "", "0d": "", "-2h": "", "2": "", "d": "", "-1d": "", "1.5d": "", "65536d": "", "2w": "", "99999d": "", "36501d": "", "2026-02-30": "",
		"2026-02-02": "", "yesterday": "", "2562047h48m": "",
	} {
		got, err := parseSince(text, since)
		if (err == nil) != (want != "") || err == nil && got.UTC().Format(time.RFC3339) != want {
			t.Errorf("%q: got %v, %v, want %q", text, got, err, want)
		}
	}
}

func FuzzParseSince(f *testing.F) {
	for _, seed := range []string{"2h", "7d", "4w", "2026-01-31", "2026-01-31 15:04", "9223372036854775807ns", "1d1d"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := parseSince(text, since)
		if err == nil && (got.After(since) || got.Before(time.Time{})) {
			t.Errorf("%q: %v", text, got)
		}
	})
}
