package cmd

import (
	"testing"
	"time"
)

func TestParseDays(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"14d": 14 * day, "0d": 0, "12h": 12 * time.Hour, "1d12h": 36 * time.Hour, "90m": 90 * time.Minute, "36500d": 36500 * day,
	} {
		if got, err := parseDays(text); err != nil || got != want {
			t.Errorf("%s is %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "d", "14", "-1d", "-1h", "1.5d", "1d-2h", "36501d", "36500d1h", "99999999999d", "1h2d", "14 d", "2w"} {
		if got, err := parseDays(text); err == nil {
			t.Errorf("%q is %v", text, got)
		}
	}
}

func FuzzParseDays(f *testing.F) {
	f.Add("14d")
	f.Add("1d12h30m")
	f.Fuzz(func(t *testing.T, text string) {
		if d, err := parseDays(text); err == nil && (d < 0 || d > mostDays*day) {
			t.Errorf("%q is %v", text, d)
		}
	})
}

func TestInWords(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 30 * time.Second: "30s", 90 * time.Second: "1m", 119 * time.Minute: "119m",
		2 * time.Hour: "2h", 47 * time.Hour: "47h", 89*day + 5*time.Hour: "89d",
	} {
		if got := inWords(d); got != want {
			t.Errorf("%v is %s, want %s", d, got, want)
		}
	}
}
