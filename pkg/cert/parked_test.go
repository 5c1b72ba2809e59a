package cert_test

import (
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
)

// A time that a wrong clock wrote is known by what no right clock writes (X45).
func TestIsParked(t *testing.T) {
	const day, year = 24 * time.Hour, 365 * 24 * time.Hour
	now := time.Date(2026, 11, 27, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name     string
		at, ends time.Duration // from now; ends 0: no certificate
		want     bool
	}{
		{"twelve years ahead, no certificate", 12 * year, 0, true},
		{"twelve years ahead", 12 * year, 90 * day, true},
		{"twelve years behind", -12 * year, 90 * day, false},
		{"the ordinary renewal", 60 * day, 90 * day, false},
		{"the renewal of a certificate of a year", 240 * day, 365 * day, false},
		{"a week of a CA's rate limit", 7 * day, 0, false},
		{"the longest wait", 8 * day, 0, false},
		{"more than that", 8*day + time.Second, 0, true},
		{"a retry after the end", day, -day, false},
		{"later than an ended one", 9 * day, -day, true},
		{"now", 0, 0, false},
	} {
		var notAfter time.Time
		if c.ends != 0 {
			notAfter = now.Add(c.ends)
		}
		if got := cert.IsParked(now.Add(c.at), notAfter, now); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}
